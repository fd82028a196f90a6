/** A lesson beside the views: one step at a time, each with the view that it is about. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { LessonReport } from "../report/index.js";

/** The step that the reader is at is theirs, not the machine's: kept over a reload of the page. */
const place = (lesson: LessonReport): string => `viommu-lesson-${lesson.name}`;

function remembered(lesson: LessonReport): number {
  try {
    const step = Number(sessionStorage.getItem(place(lesson)));
    return Number.isInteger(step) && step >= 0 && step < lesson.steps.length ? step : 0;
  } catch {
    // Pages of files may have no storage.
    return 0;
  }
}

export function Lesson({ lesson }: { readonly lesson: LessonReport }) {
  const [at, setAt] = useState(() => remembered(lesson));
  const heading = useRef<HTMLHeadingElement>(null);
  const step = lesson.steps[at];

  // The first step is shown where the address names nothing of its own.
  useEffect(() => {
    if (at === 0 && /^#?\/?(?:map)?$/.test(location.hash)) {
      location.hash = lesson.steps[0].show;
    }
  }, []);

  const go = (to: number): void => {
    setAt(to);
    location.hash = lesson.steps[to].show;
    try {
      sessionStorage.setItem(place(lesson), String(to));
    } catch {
      // As above.
    }
    // Behind the view's own wish for it: who reads on by key stays in the lesson.
    requestAnimationFrame(() => heading.current?.focus());
  };

  return (
    <aside class="lesson" aria-label={`Lesson: ${lesson.title}`}>
      <p class="lesson-title">Lesson: {lesson.title}</p>
      {at === 0 && <p class="lesson-about">{lesson.about}</p>}
      <h2 tabIndex={-1} ref={heading}><span class="lesson-count">{at + 1} of {lesson.steps.length}</span> {step.title}</h2>
      <p class="lesson-text">{step.text}</p>
      {step.sees.length > 0 && (
        <p class="lesson-sees">Look for {step.sees.map((text, i) => <>{i > 0 && ", "}<code key={text}>{text}</code></>)}.</p>
      )}
      <p class="lesson-keys">
        <button type="button" disabled={at === 0} onClick={() => go(at - 1)}>Back</button>{" "}
        <button type="button" disabled={at + 1 === lesson.steps.length} onClick={() => go(at + 1)}>Next</button>{" "}
        <a href={step.show}>Show this step's view again</a>
      </p>
    </aside>
  );
}
