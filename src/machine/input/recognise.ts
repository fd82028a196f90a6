/** The form of a text that describes a machine, and the words of QEMU's command line that it comes to. */
import type { Finding } from "../../support/index.js";
import type { LocatedWord } from "../arguments/index.js";
import { readCommandText } from "./command-text.js";
import { readDomainXml } from "./domain-xml/read-domain.js";
import { readVirtualMachine } from "./kubevirt/read-vmi.js";
import { readWordList } from "./word-lists.js";

/** What a text comes to; `parseArguments` and `readArguments` take it. */
export interface RecognisedInput {
  /** QEMU's command line, each word with its place in the text. */
  readonly words: readonly LocatedWord[];
  /** What was skipped or mended on the way, as notes. */
  readonly findings: readonly Finding[];
}

export interface InputForm {
  readonly name: string;
  recognises(text: string): boolean;
  /** @param name of the text, for places. @throws Refusal */
  read(text: string, name: string): RecognisedInput;
}

/** The first that recognises a text reads it. */
const FORMS: readonly InputForm[] = [
  readWordList,
  readDomainXml,
  readVirtualMachine,
  { name: "command line", recognises: () => true, read: readCommandText },
];

/**
 * Reads a text: a file of arguments, a log of libvirt, what ps prints, a mail, the words of /proc/PID/cmdline, a domain
 * XML, a VirtualMachine of KubeVirt.
 * @param name of the text, for places and messages
 * @throws Refusal
 */
export function recognise(text: string, name: string): RecognisedInput {
  const plain = text.replace(/^\uFEFF/, "");
  return FORMS.find((form) => form.recognises(plain))!.read(plain, name);
}
