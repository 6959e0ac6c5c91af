/** The panel. */
import * as premiere from "premierepro";
import { storage } from "uxp";
import { Server, type Options } from "./client";
import { makeSounds } from "./make";
import { Problem } from "./problem";

const FOLDER = "maskvat-folder"; // key of the folder's persistent token
const TOKEN = "maskvat-token";
const files = storage.localFileSystem;

function field(id: string): HTMLInputElement {
  return document.getElementById(id) as HTMLInputElement;
}

function show(text: string): void {
  (document.getElementById("status") as HTMLElement).textContent = text;
}

/** The folder for sounds: the one that was chosen, or one that the user chooses now. */
async function soundFolder(choose = false) {
  const known = choose ? null : localStorage.getItem(FOLDER);
  if (known) {
    try {
      return await files.getEntryForPersistentToken(known);
    } catch {
      localStorage.removeItem(FOLDER); // it was moved or deleted
    }
  }
  const folder = await files.getFolder();
  if (!folder) throw new Problem("no folder was chosen; the sounds need one");
  localStorage.setItem(FOLDER, await files.createPersistentToken(folder));
  return folder;
}

/** Save under a name that is free in the folder. */
async function save(name: string, bytes: ArrayBuffer): Promise<string> {
  const folder = await soundFolder();
  const [, stem, suffix] = /^(.*?)(\.[^.]*)?$/.exec(name) ?? [];
  for (let number = 1; ; number++) {
    const tried = number === 1 ? name : `${stem} ${number}${suffix ?? ""}`;
    const taken = await folder.getEntry(tried).then(() => true, () => false);
    if (taken) continue;
    const file = await folder.createFile(tried, { overwrite: false });
    await file.write(bytes, { format: storage.formats.binary });
    return file.nativePath;
  }
}

function options(): Options {
  const takes = Number(field("takes").value);
  const prompt = field("prompt").value.trim();
  const seed = Date.now() % 2 ** 31; // each try differs
  const chosen: Options = { takes, candidates: takes, steps: Number(field("steps").value), seed };
  return prompt ? { ...chosen, prompt } : chosen;
}

async function run(): Promise<void> {
  const stop = new AbortController();
  const [make, cancel] = [field("make"), field("cancel")];
  const abort = () => stop.abort();
  make.disabled = true;
  cancel.disabled = false;
  cancel.addEventListener("click", abort);
  try {
    await soundFolder(); // asks now, not after the work
    const token = field("token").value.trim();
    await storage.secureStorage.setItem(TOKEN, token);
    await makeSounds(premiere, new Server(token), options(), save, show, stop.signal);
  } catch (error) {
    show(error instanceof Problem ? error.message : `${String(error)}; please report it`);
  } finally {
    cancel.removeEventListener("click", abort);
    make.disabled = false;
    cancel.disabled = true;
  }
}

async function start(): Promise<void> {
  const known = await storage.secureStorage.getItem(TOKEN).catch(() => null);
  if (known) field("token").value = new TextDecoder().decode(known);
  field("make").addEventListener("click", () => void run());
  field("folder").addEventListener("click", () => {
    soundFolder(true).then((folder) => show(`sounds go to ${folder.nativePath}`), (error) => show(String(error.message)));
  });
}

document.addEventListener("DOMContentLoaded", () => void start());
