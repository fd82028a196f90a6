/** Machines as people have them: a command line in whatever form it was found in. */
export { type RecognisedInput, recognise } from "./recognise.js";
