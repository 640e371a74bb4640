/** Rounds in which every contestant answers the same question once, one after the other. */
import type { Answer, Contestant, Question, Subject } from "./answer.ts";
import { openContestant } from "./contestants.ts";

/** A contestant whose answer would take longer than this gives one short answer instead. */
const PATIENCE_SECONDS = 150;
const SHORT_TOKENS = 4;
const WARM_UP_TOKENS = 3;

export interface Outcome extends Subject {
  threads: number;
  answers: Answer[];
  /** Why there is no answer. */
  failure?: string;
}

interface Entry {
  contestant: Contestant;
  outcome: Outcome;
  rounds: number;
  maxTokens: number;
}

/** Loads every subject, lets each answer a short question to warm up, then runs the rounds. */
export async function runRounds(subjects: Subject[], question: Question, rounds: number): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  const entries: Entry[] = [];
  for (const subject of subjects) {
    const outcome: Outcome = { ...subject, threads: 1, answers: [] };
    outcomes.push(outcome);
    try {
      console.error(`loading ${nameOf(subject)}`);
      const contestant = await openContestant(subject);
      outcome.threads = contestant.threads;
      const warm = await contestant.answer({ ...question, maxTokens: WARM_UP_TOKENS });
      const patient = secondsFor(warm, question.maxTokens) <= PATIENCE_SECONDS;
      entries.push({ contestant, outcome, rounds: patient ? rounds : 1, maxTokens: patient ? question.maxTokens : SHORT_TOKENS });
    } catch (error) {
      outcome.failure = String(error);
      console.error(`${nameOf(subject)}: ${outcome.failure}`);
    }
  }
  for (let round = 0; round < rounds; round++) {
    for (const entry of entries) {
      if (round >= entry.rounds || entry.outcome.failure !== undefined) continue;
      try {
        const answer = await entry.contestant.answer({ ...question, maxTokens: entry.maxTokens });
        if (answer.promptTokens !== question.prompt.length) {
          throw new Error(`it read ${String(answer.promptTokens)} prompt tokens, not ${String(question.prompt.length)}`);
        }
        entry.outcome.answers.push(answer);
        console.error(`round ${String(round + 1)}, ${nameOf(entry.outcome)}: ${((answer.times.at(-1) ?? NaN) / 1000).toFixed(1)} s`);
      } catch (error) {
        entry.outcome.failure = String(error);
        console.error(`${nameOf(entry.outcome)}: ${entry.outcome.failure}`);
      }
    }
  }
  for (const { contestant } of entries) await contestant.leave();
  return outcomes;
}

function secondsFor(warm: Answer, tokens: number): number {
  const [first, last] = [warm.times[0] ?? 0, warm.times.at(-1) ?? 0];
  return (first + ((last - first) / Math.max(1, warm.times.length - 1)) * (tokens - 1)) / 1000;
}

function nameOf(subject: Subject): string {
  return [subject.runtime, subject.backend, subject.weights, subject.precision, subject.isolated === true ? "isolated" : undefined].filter((word) => word !== undefined).join(" ");
}
