/** Machines that teach: a folder with a machine, a guest and a text for the inspector. */
export { type Lesson, lessonNames, loadLesson } from "./lesson.js";
