// An operator with a browser: finds the running shifts, launches staging_validation from the launchpad as it
// stands, and waits for its end. Arguments: package folder, Chromium, address of the UI, folder for pictures.
import { createRequire } from "node:module";

const [packages, executablePath, ui, pictures] = process.argv.slice(2);
const { chromium } = createRequire(`${packages}/x`)("playwright-core");

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"],
});
const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
page.setDefaultTimeout(60_000);
const found = {};

async function text(selector = "body") {
  return (await page.locator(selector).first().innerText()).replace(/\s+/g, " ");
}

async function waitForText(pattern, seconds) {
  const until = Date.now() + seconds * 1000;
  for (;;) {
    const said = await text();
    const match = said.match(pattern);
    if (match) return match[0];
    if (Date.now() > until) throw new Error(`${pattern} was not seen in ${seconds} s on ${page.url()}: ${said.slice(0, 1500)}`);
    await page.waitForTimeout(500);
  }
}

async function picture(name) {
  await page.screenshot({ path: `${pictures}/${name}.png` });
}

try {
  await page.goto(`${ui}/runs`);
  await waitForText(/timer_shift/, 60);
  found.shifts = {
    timer: await page.getByText("timer_shift", { exact: true }).count(),
    fanout: await page.getByText("fanout_shift", { exact: true }).count(),
  };
  await picture("runs");

  await page.goto(`${ui}/locations/sketchy_orchestration/jobs/staging_validation`);
  await waitForText(/staging_validation/, 60);
  await picture("job");

  await page.goto(`${ui}/locations/sketchy_orchestration/jobs/staging_validation/playground`);
  const launch = page.getByRole("button", { name: "Launch run" });
  await launch.waitFor();
  while (!(await launch.isEnabled())) await page.waitForTimeout(200);
  await picture("launchpad");
  await launch.click();
  await page.waitForURL(/\/runs\/[0-9a-f-]{36}/);
  found.run = page.url().match(/[0-9a-f-]{36}/)[0];
  found.status = await waitForText(/\b(Success|Failure|Canceled)\b/, 420);
  await picture("run");
} catch (error) {
  found.error = String(error);
  await picture("failed").catch(() => {});
}
await browser.close();
process.stdout.write(`${JSON.stringify(found)}\n`);
