// Keys of one letter, as in an editor. They can be turned off, and never act while something is typed.

import { $, say } from "./dom.js";
import { setEnd } from "./forms.js";
import { now, seek, togglePlay } from "./stage.js";
import { heardTake, listenTo, state, takes } from "./store.js";

const STEP = 1, SMALL_STEP = 0.1; // seconds
const KEPT = "maskvat keys"; // in the browser's storage

const isTyping = (element) => element.matches("input:not([type=radio], [type=checkbox], [type=range]), select, textarea");
const usesKeys = (element) => element.matches("button, a, input, select, summary"); // for Space and the arrows

function choose(digit) {
  const take = takes().find((found) => found.digit === digit);
  if (digit === 0 || take) hear(take?.key ?? "original");
}

/** A radio button that is pressed tells itself; a key does not. */
function hear(key) {
  listenTo(key);
  const take = heardTake();
  say(take ? `Take ${take.title}` : "The original sound");
}

const KEYS = { b: () => hear(state.before), i: () => setEnd("begin"), o: () => setEnd("end") };

function onKey(event) {
  if (!$("use-keys").checked || event.ctrlKey || event.altKey || event.metaKey || $("sign-in").open) return;
  if (isTyping(event.target)) return;
  const key = event.key.toLowerCase(), step = event.shiftKey ? SMALL_STEP : STEP;
  const moves = { " ": togglePlay, arrowleft: () => seek(now() - step), arrowright: () => seek(now() + step) };
  if (/^[0-9]$/.test(key)) choose(Number(key));
  else if (KEYS[key]) KEYS[key]();
  else if (moves[key] && !usesKeys(event.target)) moves[key]();
  else return;
  event.preventDefault();
}

export function prepareKeys() {
  $("use-keys").checked = localStorage.getItem(KEPT) !== "off";
  $("use-keys").onchange = () => localStorage.setItem(KEPT, $("use-keys").checked ? "on" : "off");
  document.addEventListener("keydown", onKey);
}
