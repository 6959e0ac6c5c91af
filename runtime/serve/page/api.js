// Every request that the page makes. A test compares them with the server's OpenAPI document.

/** An error of the server. `code` is for programs, `message` for people (docs/SERVER.md). */
export class ApiError extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** Called when the server no longer knows who we are. */
export const signedOut = { tell: () => {} };

async function problemOf(answer) {
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 401) signedOut.tell();
  return new ApiError(answer.status, body.code ?? "unknown", body.detail ?? `the server answered ${answer.status}`);
}

async function send(method, path, { json, headers = {} } = {}) {
  const type = json === undefined ? {} : { "Content-Type": "application/json" };
  const body = json === undefined ? undefined : JSON.stringify(json);
  let answer;
  try {
    answer = await fetch(path, { method, body, headers: { ...type, ...headers } });
  } catch {
    throw new ApiError(0, "unreachable", "the server does not answer; is it still running?");
  }
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

const ask = async (...call) => {
  const answer = await send(...call);
  return answer.status === 204 ? null : answer.json();
};

// ---------------------------------------------------------------- who we are
export const session = () => ask("GET", "/v1/session");
export const signInWithCode = (code) => ask("POST", "/v1/session", { json: { code } });
export const signInWithToken = (token) => ask("POST", "/v1/session", { headers: { Authorization: `Bearer ${token}` } });
export const signOut = () => ask("DELETE", "/v1/session");
export const models = () => ask("GET", "/v1/models");

// ---------------------------------------------------------------- videos
export const listFiles = () => ask("GET", "/v1/files");
export const fileUrl = (id) => `/v1/files/${id}`;
export const deleteFile = (id) => ask("DELETE", `/v1/files/${id}`);

/** Upload a file. Returns a promise and `abort`. `onProgress` gets a share from 0 to 1, which fetch cannot tell. */
export function upload(file, onProgress) {
  const request = new XMLHttpRequest();
  request.open("POST", `/v1/files?name=${encodeURIComponent(file.name)}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.responseType = "json";
  request.upload.onprogress = (event) => onProgress(event.loaded / event.total);
  const done = new Promise((resolve, reject) => {
    const fail = (code, text) => reject(new ApiError(request.status, code, text));
    request.onload = () => {
      if (request.status === 201) resolve(request.response);
      else fail(request.response?.code ?? "unknown", request.response?.detail ?? "the upload failed");
    };
    request.onerror = () => fail("unreachable", "the upload broke off; try again");
    request.onabort = () => fail("aborted", "the upload was cancelled");
    request.send(file);
  });
  return { done, abort: () => request.abort() };
}

// ---------------------------------------------------------------- jobs
export const listJobs = () => ask("GET", "/v1/jobs?limit=500");
export const createJob = (job) => ask("POST", "/v1/jobs", { json: job });
export const cancelJob = (id) => ask("POST", `/v1/jobs/${id}/cancel`);
export const deleteJob = (id) => ask("DELETE", `/v1/jobs/${id}`);
export const jobEvents = (id) => new EventSource(`/v1/jobs/${id}/events`);
export const resultUrl = (id, name) => `/v1/jobs/${id}/results/${encodeURIComponent(name)}`;
export const timelineUrl = (id, name, folder) => `${resultUrl(id, name)}?folder=${encodeURIComponent(folder)}`;
export const readReport = (id) => ask("GET", `/v1/jobs/${id}/results/report.json`);
export const readBytes = async (url) => (await send("GET", url)).arrayBuffer();
