import { render } from "preact";
import { App } from "./app.js";
import { openClient } from "./client.js";
import { Problem } from "./views/parts.js";

const page = document.getElementById("page")!;
openClient().then(
  (client) => render(<App client={client} />, page),
  (error: unknown) => render(<Problem>{error instanceof Error ? error.message : String(error)}</Problem>, page),
);
