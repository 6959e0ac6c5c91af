// Uses the page in Firefox as a person would, and prints what it saw as one line of JSON. test_page_in_firefox.py starts it
// and says what must be true. Puppeteer drives Debian's Firefox over WebDriver BiDi, so no geckodriver is needed.
import { readFile, readdir } from "node:fs/promises";
import puppeteer from "puppeteer-core";

const given = JSON.parse(process.argv[2]); // firefox, address, video, downloads, word, silent
const PATIENCE = 300_000; // ms until a sound must be there, also on a machine that does much else
const seen = { faults: [] };

async function use(page) {
  await page.goto(given.address);
  await until(page, () => !document.getElementById("main").hidden);
  await drop(page);
  if (given.silent) return look(page);
  await ask(page);
  seen.wave = await page.evaluate(drawn);
  seen.level = await loudest(page, 3);
  await page.keyboard.press("0");
  await shows(page, ".take:has(:checked)", "Original");
  seen.original = await loudest(page, 1);
  await page.keyboard.press("1");
  await redo(page);
  await deliver(page);
}

// ---------------------------------------------------------------- waiting
async function until(page, condition, ...values) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await page.evaluate(condition, ...values); // Puppeteer's own wait would need `eval`: the page forbids it
    if (found) return found;
    if (Date.now() > end) throw new Error(`it did not happen: ${condition} ${values}\n${await shown(page)}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

const shows = (page, selector, text) =>
  until(page, (where, part) => document.querySelector(where)?.textContent.includes(part), selector, text);

const shown = (page) => page.evaluate(() => document.body.innerText);

// ---------------------------------------------------------------- the steps
async function drop(page) {
  const bytes = [...(await readFile(given.video))];
  await page.evaluate((values) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([Uint8Array.from(values)], "bounce.mp4", { type: "video/mp4" }));
    for (const name of ["dragover", "drop"])
      document.getElementById("stage").dispatchEvent(new DragEvent(name, { dataTransfer, bubbles: true, cancelable: true }));
  }, bytes);
  await shows(page, "#status", "bounce.mp4 is ready");
}

async function ask(page) {
  await fill(page, "#make [name='options.takes']", "1");
  await page.click("#make .more > summary");
  await fill(page, "#make [name='options.steps']", "4");
  await page.click("#make button[type=submit]");
  await shows(page, ".take:has(:checked)", "Take 1");
  await shows(page, "#wave-text", "onsets");
}

async function fill(page, selector, text) {
  await page.$eval(selector, (field) => { field.value = ""; });
  await page.type(selector, text);
}

/** What the waveform shows: its text, the number of marks, and how many pixels of it are painted. Runs in the page. */
function drawn() {
  const root = document.querySelector("#wave > div").shadowRoot;
  let painted = 0;
  for (const canvas of root.querySelectorAll("canvas")) {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 3; at < data.length; at += 4) painted += data[at] > 0;
  }
  const text = document.getElementById("wave-text").textContent;
  return { text, marks: root.querySelectorAll("[part~=marker]").length, painted };
}

/** Play from the start for some seconds; the highest level (dB) that the meter shows. */
async function loudest(page, seconds) {
  await page.evaluate(() => {
    document.getElementById("video").currentTime = 0;
    const level = document.getElementById("level");
    window.highest = -60;
    window.watching = setInterval(() => { window.highest = Math.max(window.highest, level.value); }, 10);
  });
  await page.click("#play");
  await until(page, (end) => document.getElementById("video").currentTime >= end, seconds);
  await page.click("#play");
  return page.evaluate(() => (clearInterval(window.watching), window.highest));
}

/** Without a sound output: the picture plays all the same. */
async function look(page) {
  await page.click("#play");
  await until(page, () => document.getElementById("video").currentTime >= 1);
  seen.status = await page.$eval("#status", (status) => status.textContent);
}

/** Select 2 s to 3 s of the 7 s with the mouse, write a word, and make this range anew. */
async function redo(page) {
  const box = await (await page.$("#wave")).boundingBox();
  const [second, y] = [box.width / 7, box.y + 40];
  await page.mouse.move(box.x + 2 * second, y);
  await page.mouse.down();
  await page.mouse.move(box.x + 3 * second, y, { steps: 5 });
  await page.mouse.up();
  seen.range = await page.evaluate(() => ["range-in", "range-out"].map((id) => document.getElementById(id).valueAsNumber));
  await fill(page, "#redo [name='options.prompt']", given.word);
  await page.keyboard.press("Escape"); // closes the list of suggestions, which would take the next click
  await page.click("#redo button[type=submit]");
  await shows(page, ".take:has(:checked)", "Take 2");
  await shows(page, ".take:has(:checked)", "redo ");
  seen.redone = await page.$eval(".take:has(:checked)", (take) => take.textContent);
}

async function deliver(page) {
  await page.click("#deliver-task > summary");
  await page.click("#deliver [name='options.bwf']");
  await page.click("#deliver button[type=submit]");
  await shows(page, "#queue li[data-status=succeeded]", "Files: wav");
  await shows(page, "#files li", "LUFS");
  for (const link of await page.$$("#files a")) {
    if ((await link.evaluate((a) => a.textContent)).includes("bounce.wav")) { await link.click(); break; }
  }
  const end = Date.now() + PATIENCE;
  for (;;) {
    const names = await readdir(given.downloads);
    if (names.length && !names.some((name) => name.endsWith(".part"))) { seen.files = names; return; }
    if (Date.now() > end) throw new Error(`no file was downloaded\n${await shown(page)}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

// ---------------------------------------------------------------- the whole way
const browser = await puppeteer.launch({
  browser: "firefox",
  executablePath: given.firefox,
  headless: true,
  defaultViewport: { width: 1280, height: 720 },
  protocolTimeout: PATIENCE,
  extraPrefsFirefox: { "browser.download.folderList": 2, "browser.download.dir": given.downloads },
});
try {
  seen.browser = (await browser.version()).replace("firefox/", "Firefox ");
  const page = await browser.newPage();
  page.on("pageerror", (error) => seen.faults.push(String(error)));
  page.on("console", (message) => message.type() === "error" && seen.faults.push(message.text()));
  await use(page);
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
