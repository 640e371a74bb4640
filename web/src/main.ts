import { mount } from "svelte";
import App from "./views/App.svelte";
import "./views/theme.css";
import { createEngine } from "./engine/client.ts";
import type { Engine } from "./engine/protocol.ts";
import { Installed } from "./state/page/installed.svelte.ts";
import { startEmbeddedWorker } from "./state/one_file/collect.ts";
import { automation } from "./state/session/automation.ts";
import { Session } from "./state/session/session.svelte.ts";
import { openConversations } from "./state/storage/conversations.ts";
import { openRecords } from "./state/storage/records.ts";

async function chooseEngine(): Promise<Engine> {
  const query = new URLSearchParams(location.search);
  if (import.meta.env.DEV && query.has("mock")) {
    const { mockFromAddress } = await import("./fixtures/mock_engine.ts");
    return mockFromAddress(query);
  }
  return import.meta.env.MODE === "one-file" ? createEngine(startEmbeddedWorker) : createEngine();
}

const target = document.getElementById("app");
if (target !== null) {
  const installed = new Installed();
  const engine = await chooseEngine();
  const session = new Session(engine, await openConversations(), await openRecords("traits"), await openRecords("runs"), await openRecords("screens"));
  Object.assign(globalThis, { trimtab: automation(engine, session.model) });
  await session.chat.restore();
  await session.workshop.restore();
  await session.lab.restore();
  mount(App, { target, props: { session, installed } });
  await session.model.readCatalogue();
}
