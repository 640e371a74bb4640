/** Numbers, names and plans as people read them. */

import type { Plan } from "./engine/protocol.ts";

/** A number with its sign, a true minus, and no sign at 0. */
export function signed(value: number, digits = 1): string {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return value < 0 ? `−${text}` : `+${text}`;
}

/** A number as charts and tables write it: about three significant digits, a true minus, a dash where there is none. */
export function short(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size >= 100 ? size.toFixed(0) : size >= 10 ? size.toFixed(1) : size.toFixed(2);
  return Number(text) === 0 || value >= 0 ? text : `−${text}`;
}

/** A share of 1 in whole hundredths. */
export function percent(share: number): string {
  return `${(share * 100).toFixed(0)} %`;
}

/** The probability that belongs to a natural log-probability. */
export function probability(logprob: number): string {
  const share = Math.exp(logprob);
  if (!Number.isFinite(share)) return "unknown";
  if (share >= 0.9995) return "100 %";
  if (share >= 0.1) return percent(share);
  if (share >= 0.001) return `${(share * 100).toFixed(1)} %`;
  return "< 0.1 %";
}

/** Bytes in megabytes, without the unit. */
export function megabytes(bytes: number): string {
  const value = bytes / 1e6;
  return value >= 10 ? value.toFixed(0) : value.toFixed(1);
}

/** A count of numbers, rounded as models' names round it. */
export function numbersInWords(count: number): string {
  return count >= 1e9 ? `${(count / 1e9).toFixed(1)} billion` : `${Math.round(count / 1e6).toLocaleString()} million`;
}

/** How fast a model writes. */
export function speedInWords(tokensPerSecond: number): string {
  return `${tokensPerSecond < 10 ? tokensPerSecond.toFixed(1) : Math.round(tokensPerSecond).toFixed(0)} tokens a second`;
}

/** An estimate of the seconds that are left. */
export function timeLeft(seconds: number): string {
  if (seconds < 60) return `about ${Math.max(1, Math.round(seconds))} s left`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `about ${minutes} min left` : `about ${Math.round(seconds / 3600)} h left`;
}

/** A trait's name in words: names of files and sliders have hyphens for spaces. */
export function spokenName(name: string): string {
  return name.replaceAll("-", " ");
}

/** A plan in a few words. */
export function planText(plan: Plan): string {
  if (plan.length === 0) return "no push";
  const term = ({ trait, operation }: Plan[number]): string => {
    if (operation.kind === "add") return `${spokenName(trait)} ${signed(operation.coefficient)}`;
    // Adapters have names of their own, which are not spelt like traits'.
    return operation.kind === "tune" ? `tuned by ${trait}, ${percent(operation.scale)}` : `${spokenName(trait)}: ${operation.kind}`;
  };
  return plan.map(term).join(", ");
}
