/** Problems of a trait pack: the program names a field, the page shows the problem there. */

import type { Failure } from "../../engine/protocol.ts";

export interface Problem {
  /** The named field, such as `instructions[2].negative`; empty where none was named. */
  field: string;
  message: string;
}

export interface Field {
  /** `name`, `opposite`, `description`, `opposite_description`, `instructions`, `questions.extraction`, `questions.evaluation`, `licence`, or empty. */
  part: string;
  index: number | null;
  side: "positive" | "negative" | null;
}

const places = /^(name|opposite|description|opposite_description|licence|instructions|questions\.extraction|questions\.evaluation)(?:\[(\d+)\])?(?:\.(positive|negative))?$/;

export function fieldOf(field: string): Field {
  const found = places.exec(field);
  if (found === null) return { part: "", index: null, side: null };
  const [, part = "", index, side] = found;
  return { part, index: index === undefined ? null : Number(index), side: side === "positive" || side === "negative" ? side : null };
}

/** The problem in a sentence like `questions.extraction[3]: is empty; write something`. */
export function problemOf(failure: Failure): Problem {
  const [field = "", ...rest] = failure.message.split(": ");
  if (rest.length > 0 && fieldOf(field).part !== "") return { field, message: sentence(rest.join(": ")) };
  return { field: "", message: failure.message };
}

/** The reason as a sentence, with names of other fields in the words of the form. */
function sentence(reason: string): string {
  const named = reason.replace(/\b(questions\.(extraction|evaluation)|instructions)\[(\d+)\](?:\.(positive|negative))?/g, (_, part: string, half: string | undefined, index: string, side: string | undefined) => {
    const number = Number(index) + 1;
    if (part === "instructions") return `the ${side ?? ""} instruction of pair ${String(number)}`;
    return `question ${String(number)} to ${half === "extraction" ? "learn from" : "test with"}`;
  });
  const text = named.charAt(0).toUpperCase() + named.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
