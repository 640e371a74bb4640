/** The page before any model is there. */
import { expect, test } from "./browser.ts";

test("a recorded run plays, with five doses on its slider", async ({ fresh: page }) => {
  const recorded = page.getByRole("region", { name: "A recorded run" });
  await expect(recorded.getByText("Recording", { exact: true })).toBeVisible();
  await expect(recorded.getByText("not live")).toBeVisible();

  const steered = recorded.getByRole("listbox", { name: /^Steered answer/ }).getByRole("option");
  await expect(steered.first()).toBeVisible();
  const early = await steered.count();
  await expect.poll(() => steered.count(), { message: "the recording goes on playing" }).toBeGreaterThan(early);

  const slider = recorded.getByRole("slider");
  await expect(slider).toHaveAttribute("max", "4");
  await slider.focus();
  const texts = new Set<string>();
  await page.keyboard.press("Home");
  for (let dose = 0; dose < 5; dose++) {
    texts.add((await steered.allTextContents()).join(""));
    await page.keyboard.press("ArrowRight");
  }
  expect(texts.size, "each dose has an answer of its own").toBe(5);

  const colours = await steered.evaluateAll((tokens) => tokens.map((token) => (token as HTMLElement).style.backgroundColor));
  expect(new Set(colours.filter((colour) => colour !== "")).size).toBeGreaterThan(1);
});

test("the button says how much is downloaded and where it comes from, and nothing is downloaded unasked", async ({ fresh: page }) => {
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.reload();
  await expect(page.getByRole("button", { name: /Load the model.*98 MB/ })).toBeVisible();
  await expect(page.getByText(/Apache-2\.0.*from \S+/)).toBeVisible();
  await page.waitForLoadState("networkidle");
  expect(asked.filter((url) => url.endsWith(".safetensors"))).toEqual([]);
});
