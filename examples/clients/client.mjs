// Makes a sound for a video with `maskvat stdio`. Node 18 or newer, no packages. docs/EMBEDDING.md has the protocol.
//     node client.mjs VIDEO OUTPUT.wav [STEPS]
// MASKVAT is the program to start, with its arguments; by default "maskvat stdio".
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

class MaskVAT {
  constructor(program) {
    const [command, ...args] = program.split(" ");
    this.child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
    this.child.stdin.on("error", () => {}); // the process is gone; `exit` says so
    this.next = 1;
    this.waiting = new Map(); // id -> { resolve, reject, onProgress }
    this.hello = new Promise((resolve, reject) => {
      this.greet = resolve;
      const fail = (why) => {
        const error = new Error(why);
        reject(error);
        for (const request of this.waiting.values()) request.reject(error);
      };
      this.child.on("error", (error) => fail(`cannot start ${command}: ${error.message}`));
      this.child.on("exit", (code) => fail(`the process has ended with ${code}`));
    });
    createInterface({ input: this.child.stdout }).on("line", (line) => this.take(JSON.parse(line)));
  }

  take(event) {
    if (event.event === "hello") return this.greet(event);
    const request = this.waiting.get(event.id);
    if (event.event === "progress") request?.onProgress?.(event);
    if (event.event === "done") request?.resolve(event.result);
    if (event.event === "error") request?.reject(Object.assign(new Error(event.message), { code: event.code }));
    if (event.event === "done" || event.event === "error") this.waiting.delete(event.id);
  }

  request(method, fields = {}, onProgress = undefined) {
    const id = this.next++;
    this.child.stdin.write(JSON.stringify({ id, method, ...fields }) + "\n");
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject, onProgress }));
  }
}

const [video, output, steps = "32"] = process.argv.slice(2);
if (!output) {
  console.error("usage: node client.mjs VIDEO OUTPUT.wav [STEPS]");
  process.exit(2);
}
try {
  const maskvat = new MaskVAT(process.env.MASKVAT ?? "maskvat stdio");
  const hello = await maskvat.hello;
  if (hello.protocol !== 1) throw new Error(`protocol ${hello.protocol} is not known here`);
  await maskvat.request("load");
  const fields = { video, output, options: { steps: Number(steps), overwrite: true } };
  const result = await maskvat.request("generate", fields, (progress) => {
    process.stderr.write(`${progress.stage} ${Math.round(100 * progress.fraction)} %\n`);
  });
  await maskvat.request("close");
  console.log(result.outputs[0]);
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exit(1);
}
