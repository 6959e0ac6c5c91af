// Sign in: with the code behind the # of the address, or with a code or token that is typed. The server answers with a
// cookie that scripts cannot read, so nothing secret is kept here.

import * as api from "./api.js";
import { $ } from "./dom.js";

/** Resolves when the server knows us. */
export async function signIn() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (code) history.replaceState(null, "", location.pathname); // it works once: keep it out of the history
  let problem = "";
  if (code) {
    try {
      return await api.signInWithCode(code);
    } catch (error) {
      problem = error.message;
    }
  }
  try {
    return await api.session();
  } catch (error) {
    if (error.status !== 401) throw error;
    return askForSecret(problem);
  }
}

function askForSecret(problem) {
  const dialog = $("sign-in");
  $("sign-in-problem").textContent = problem;
  dialog.oncancel = (event) => event.preventDefault(); // there is nothing to see behind it
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    $("sign-in-form").onsubmit = async (event) => {
      event.preventDefault();
      const secret = $("secret").value.trim();
      try {
        const session = await api.signInWithToken(secret).catch(() => api.signInWithCode(secret));
        $("secret").value = "";
        dialog.close();
        resolve(session);
      } catch (error) {
        $("sign-in-problem").textContent = error.message;
        $("secret").focus();
      }
    };
  });
}

/** What to do when the server forgets us, and when we leave. */
export function prepareSession() {
  let asking = false;
  api.signedOut.tell = async () => {
    if (asking || $("main").hidden) return; // the first sign-in is on its way
    asking = true;
    await askForSecret("The session has ended.");
    location.reload();
  };
  $("sign-out").onclick = async () => {
    await api.signOut();
    location.reload();
  };
}
