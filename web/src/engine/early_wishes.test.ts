import { describe, expect, it } from "vitest";
import { EarlyWishes } from "./early_wishes.ts";

describe("wishes for a run that has not begun", () => {
  it("are told when it has, in their order", async () => {
    const said: string[] = [];
    const wishes = new EarlyWishes(async () => void said.push("begun"));
    wishes.expect();
    const told = ["slider", "stop"].map((wish) => wishes.turn().then(() => said.push(wish)));
    await Promise.resolve();
    expect(said).toEqual([]);
    await wishes.start(async () => void said.push("run"));
    await Promise.all(told);
    expect(said).toEqual(["run", "begun", "slider", "stop"]);
  });

  it("wait for the last of several runs", async () => {
    const wishes = new EarlyWishes(async () => undefined);
    wishes.expect();
    wishes.expect();
    let told = false;
    const turn = wishes.turn().then(() => (told = true));
    await wishes.start(async () => undefined);
    expect([told, wishes.waiting]).toEqual([false, true]);
    await wishes.start(async () => undefined);
    await turn;
    expect(told).toBe(true);
  });

  it("are told at once where none waits, also after a run that failed", async () => {
    const wishes = new EarlyWishes(async () => undefined);
    wishes.expect();
    await expect(wishes.start(() => Promise.reject(new Error("no model")))).rejects.toThrow("no model");
    await wishes.turn();
    expect(wishes.waiting).toBe(false);
  });
});
