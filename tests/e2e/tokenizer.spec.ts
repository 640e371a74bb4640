/** Token ids in the browser against the Python package `tokenizers`. */
import { readFileSync } from "node:fs";
import { expect, pageWithModel, test } from "./browser.ts";
import type { Message } from "./golden.ts";

interface Chat {
  messages: Message[];
  answer_next: boolean;
  ids: number[];
}

const golden = JSON.parse(readFileSync(new URL("../golden/tokenizer.json", import.meta.url), "utf8")) as { texts: { text: string }[]; chats: Chat[]; lookalikes: Chat[] };

test("conversations are the reference's tokens, and texts come back from theirs", async ({ visitor }) => {
  const page = await pageWithModel(visitor, { backend: "cpu", precision: "fast" });
  const prompt = (messages: Message[]) =>
    page.evaluate(async (messages) => {
      const [result] = await globalThis.trimtab.generate(
        { columns: [{ column: "unsteered", messages, plan: [] }], sampler: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 1 }, maxTokens: 1 },
        () => undefined,
      );
      return (result?.tokens ?? []).slice(0, result?.answerStart).map(({ id, text }) => ({ id, text }));
    }, messages);

  const chats = [...golden.chats, ...golden.lookalikes].filter((chat) => chat.answer_next);
  expect(chats.length).toBeGreaterThan(8);
  for (const { messages, ids } of chats) {
    expect(
      (await prompt(messages)).map(({ id }) => id),
      JSON.stringify(messages),
    ).toEqual(ids);
  }
  for (const { text } of golden.texts) {
    const read = (await prompt([{ role: "user", content: text }])).map((token) => token.text).join("");
    expect(read).toContain(text.trim());
  }
  await page.close();
});
