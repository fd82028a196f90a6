import { render } from "preact";
import { App } from "./app.js";
import { openClient } from "./client.js";

render(<App client={openClient()} />, document.getElementById("page")!);
