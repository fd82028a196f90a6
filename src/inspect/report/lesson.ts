/** A lesson beside a machine: a page of the inspector for each step. */

export interface LessonStep {
  readonly title: string;
  /** The inspector's page that the step is about, as in its address: `#/walk?function=gpu0&iova=0x1000`. */
  readonly show: string;
  readonly text: string;
  /** What is to be seen there, as it stands on the page. */
  readonly sees: readonly string[];
}

export interface LessonReport {
  /** Its folder's name. */
  readonly name: string;
  readonly title: string;
  readonly about: string;
  readonly steps: readonly LessonStep[];
}
