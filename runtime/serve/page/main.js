// Start here: sign in, show what is there, then let each part of the page do its task.

import * as api from "./api.js";
import { $, attempt, complain, dismiss } from "./dom.js";
import { prepareForms, showWords } from "./forms.js";
import { prepareJobs, refresh } from "./jobs.js";
import { prepareKeys } from "./keys.js";
import { prepareQueue } from "./queue.js";
import { prepareSession, signIn } from "./session.js";
import { prepareStage } from "./stage.js";
import { listenTo, onChange, state, takes } from "./store.js";
import { prepareUploads } from "./uploads.js";

const OPENING = 2000; // ms until we ask again whether the bundle is open

/** The video and the take that are shown stand behind the # of the address, so that a reload shows them again. */
function rememberPlace() {
  onChange(() => history.replaceState(null, "", state.file ? `#${state.file}/${state.listening}` : location.pathname));
}

function findPlace() {
  const [file, ...take] = location.hash.slice(1).split("/");
  return { file, take: take.join("/") };
}

/** What is served. The bundle's name is known when a worker has opened it. */
async function showModel() {
  const [model] = (await api.models()).data;
  $("bundle").textContent = model.bundle ? `bundle ${model.bundle}, ${model.backend}` : "the bundle is being opened";
  showWords(model);
  if (!model.bundle) setTimeout(() => attempt(showModel), OPENING);
}

async function start() {
  prepareSession();
  $("dismiss").onclick = dismiss;
  await signIn();
  $("main").hidden = false;
  for (const prepare of [prepareStage, prepareUploads, prepareForms, prepareQueue, prepareJobs, prepareKeys]) prepare();
  await showModel();
  const place = findPlace();
  await refresh(place.file);
  if (takes().some(({ key }) => key === place.take)) listenTo(place.take);
  rememberPlace();
}

start().catch(complain);
