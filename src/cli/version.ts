export { packageVersion } from "../run/index.js";
