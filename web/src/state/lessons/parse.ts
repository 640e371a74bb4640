/** Reads a lesson's file: everything in it is bounded and checked, and errors name the line. */

// yaml: knows the line of every value, which errors for teachers need; js-yaml only knows that of syntax errors.
import { isAlias, isMap, isNode, isPair, isScalar, isSeq, LineCounter, parseDocument, visit, type Node } from "yaml";
import { meaningOf } from "./glossary.ts";
import { type Check, type Lesson, LessonError, maxLessonBytes, type Quote, type SetUp, type Step, type StepPage, type Task, type CoefficientGoal } from "./lesson.ts";
import { blocksOf } from "./marked_text.ts";

const maxSteps = 30;
const maxTasks = 12;
const maxItems = 20;
const maxWords = 60;
const maxNesting = 12;
const short = 120;
const long = 6000;
const maxCoefficient = 20;

export function parseLesson(text: string): Lesson {
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > maxLessonBytes) {
    throw new LessonError(null, `The file has ${String(bytes)} bytes; a lesson has at most ${String(maxLessonBytes)}. Is it another file?`);
  }
  const lines = new LineCounter();
  const root = document(text, lines);
  return new Reader(lines).lesson(root);
}

function document(text: string, lines: LineCounter): Node | null {
  try {
    const parsed = parseDocument(text, { lineCounter: lines, version: "1.2", merge: false, logLevel: "silent" });
    const [error] = parsed.errors;
    if (error !== undefined) throw new LessonError(error.linePos?.[0].line ?? null, `this is not sound YAML (${error.code.toLowerCase().replaceAll("_", " ")}). Check the indentation; a text that holds a colon with a space, or begins with a quotation mark or a *, stands in quotes or on lines of its own after "|".`);
    visit(parsed, {
      Node: (_, node, path) => {
        if (isAlias(node)) throw new LessonError(lineOf(node, lines), "references (* and &) are not used in lessons; write the text out, or put it in quotes.");
        if (path.length > maxNesting * 2) throw new LessonError(lineOf(node, lines), "this is nested too deeply.");
      },
    });
    return parsed.contents;
  } catch (thrown) {
    if (thrown instanceof LessonError) throw thrown;
    throw new LessonError(null, "The file could not be read as YAML; it may be nested too deeply.");
  }
}

function lineOf(node: Node | null | undefined, lines: LineCounter): number | null {
  const at = node?.range?.[0];
  return at === undefined ? null : lines.linePos(at).line;
}

/** The entries of a mapping, asked for one by one; what nobody asked for is an error. */
class Fields {
  readonly #entries = new Map<string, { key: Node; value: Node | null }>();
  readonly #known: string[] = [];

  constructor(
    readonly node: Node,
    readonly what: string,
    private readonly reader: Reader,
  ) {
    if (!isMap(node)) throw reader.error(node, `${what} should be a list of "name: value" lines`);
    for (const pair of node.items) {
      const key = pair.key as Node;
      if (!isScalar(key)) throw reader.error(key, `a name in ${what} is not plain text`);
      this.#entries.set(String(key.value), { key, value: isNode(pair.value) ? pair.value : null });
    }
  }

  get(name: string): Node | null {
    this.#known.push(name);
    const value = this.#entries.get(name)?.value ?? null;
    return isScalar(value) && value.value === null ? null : value;
  }

  names(): string[] {
    return [...this.#entries.keys()];
  }

  /** Refuses entries that were not asked for. Call it after everything that is known. */
  done(): void {
    for (const [name, { key }] of this.#entries) {
      if (!this.#known.includes(name)) throw this.reader.error(key, `${this.what} has no "${name.slice(0, 40)}"; it knows ${this.#known.map((one) => `"${one}"`).join(", ")}`);
    }
  }
}

class Reader {
  #words: ReadonlyMap<string, string> = new Map();

  constructor(private readonly lines: LineCounter) {}

  error(node: Node | null, reason: string): LessonError {
    return new LessonError(lineOf(node, this.lines), `${reason}.`);
  }

  lesson(root: Node | null): Lesson {
    if (root === null) throw new LessonError(null, "The file is empty.");
    const fields = new Fields(root, "a lesson", this);
    const version = fields.get("trimtab lesson");
    if (!isScalar(version)) throw new LessonError(1, 'a lesson begins with the line "trimtab lesson: 1".');
    if (version.value !== 1) throw this.error(version, `this is a lesson of version ${String(version.value).slice(0, 20)}; this page knows version 1`);
    const title = this.text(fields.get("title"), "title", short, fields.node);
    const summary = this.optional(fields.get("summary"), "summary", 400);
    const minutes = this.number(fields.get("minutes"), "minutes", 1, 240, true) ?? 12;
    this.#words = this.words(fields.get("words"));
    const teacher = fields.get("teacher");
    const steps = this.list(fields.get("steps"), "steps", maxSteps, (node) => this.step(node));
    const lesson: Lesson = { title, summary, minutes, words: this.#words, teacher: this.teacher(teacher), steps };
    fields.done();
    if (steps.length === 0) throw this.error(fields.node, "a lesson needs steps");
    return lesson;
  }

  private teacher(node: Node | null): Lesson["teacher"] {
    if (node === null) return { aims: [], before: "", goesWrong: [] };
    const fields = new Fields(node, '"teacher"', this);
    const notes = {
      aims: this.list(fields.get("aims"), "aims", maxItems, (one) => this.marked(one, "aim", long, node)),
      before: this.optional(fields.get("before"), "before", long),
      goesWrong: this.list(fields.get("goes wrong"), "goes wrong", maxItems, (one) => this.marked(one, "goes wrong", long, node)),
    };
    fields.done();
    return notes;
  }

  private words(node: Node | null): ReadonlyMap<string, string> {
    const found = new Map<string, string>();
    if (node === null) return found;
    const fields = new Fields(node, '"words"', this);
    if (fields.names().length > maxWords) throw this.error(node, `a lesson explains at most ${String(maxWords)} words`);
    for (const name of fields.names()) found.set(name.toLowerCase(), this.text(fields.get(name), `the meaning of "${name.slice(0, 40)}"`, 500, node));
    return found;
  }

  private step(node: Node): Step {
    const fields = new Fields(node, "a step", this);
    const question = fields.get("question");
    const answer = fields.get("answer");
    if ((question === null) !== (answer === null)) throw this.error(question ?? answer, "a question needs an answer, and an answer a question");
    const setUp = fields.get("set up");
    const step: Step = {
      title: this.text(fields.get("title"), "title", short, node),
      minutes: this.number(fields.get("minutes"), "minutes", 0.5, 120),
      text: this.optional(fields.get("text"), "text", long),
      page: this.page(fields.get("page"), node),
      setUp: setUp === null ? null : this.setUp(setUp),
      tasks: this.list(fields.get("do"), "do", maxTasks, (one) => this.task(one)),
      question: question === null ? null : { question: this.marked(question, "question", long, node), answer: this.marked(answer, "answer", long, node) },
      seen: this.optional(fields.get("what we saw"), "what we saw", long),
      quotes: this.list(fields.get("quotes"), "quotes", maxTasks, (one) => this.quote(one)),
    };
    fields.done();
    return step;
  }

  private page(node: Node | null, owner: Node): StepPage {
    if (node === null) return { kind: "play" };
    const [kind = "", ...trait] = this.text(node, "page", short, owner).split("/");
    if ((kind === "play" || kind === "train") && trait.length === 0) return { kind };
    if (kind === "traits") return { kind, trait: trait.join("/") || null };
    throw this.error(node, '"page" is play, train, traits, traits/new, or traits/ with a trait\'s name');
  }

  private setUp(node: Node): SetUp {
    const fields = new Fields(node, '"set up"', this);
    const control = fields.get("random control");
    const ask = fields.get("ask");
    const system = fields.get("system");
    const push = fields.get("push");
    const colourBy = fields.get("colour by");
    const link = fields.get("link");
    const found: SetUp = {
      ask: ask === null ? null : this.text(ask, "ask", 2000, node),
      system: system === null ? "" : this.text(system, "system", 2000, node),
      push: push === null ? new Map() : this.push(push, "push"),
      colourBy: colourBy === null ? null : this.text(colourBy, "colour by", short, node),
      layer: this.number(fields.get("layer"), "layer", 0, 512, true),
      insideRun: this.boolean(fields.get("inside the steered run"), "inside the steered run"),
      control: control === null ? null : this.control(control),
      temperature: this.number(fields.get("temperature"), "temperature", 0, 2) ?? 0,
      seed: this.number(fields.get("seed"), "seed", 0, 4294967295, true) ?? 1,
      length: this.number(fields.get("length"), "length", 1, 400, true) ?? 48,
      link: link === null ? null : this.link(link, node),
    };
    if (link !== null && (ask !== null || system !== null || push !== null)) throw this.error(link, 'a link brings its own question and push: leave out "ask", "system" and "push" beside it');
    fields.done();
    return found;
  }

  private control(node: Node): { like: string; seed: number } {
    const fields = new Fields(node, '"random control"', this);
    const control = { like: this.text(fields.get("like"), "like", short, node), seed: this.number(fields.get("seed"), "seed", 0, 4294967295, true) ?? 1 };
    fields.done();
    return control;
  }

  private link(node: Node, owner: Node): string {
    const found = this.text(node, "link", 8000, owner);
    const code = found.split("#r=").at(-1) ?? "";
    if (!/^[\w-]{8,}$/.test(code)) throw this.error(node, '"link" is what Share gave: the code, or an address with #r= and the code');
    return code;
  }

  private quote(node: Node): Quote {
    const fields = new Fields(node, "a quote", this);
    const text = this.text(fields.get("quote"), "quote", 2000, node);
    const of = this.choice(fields.get("of"), "of", ["answer", "question"] as const) ?? "answer";
    const link = fields.get("link");
    if (link === null) throw this.error(node, 'a quote needs a "link", the code that Share gave for it');
    fields.done();
    return { text, of, link: this.link(link, node) };
  }

  private task(node: Node): Task {
    if (isScalar(node)) return { text: this.marked(node, "task", 1000, node), check: null };
    const fields = new Fields(node, "a task", this);
    const check = fields.get("check");
    const task: Task = { text: this.marked(fields.get("say"), "say", 1000, node), check: check === null ? null : this.check(check) };
    fields.done();
    return task;
  }

  private check(node: Node): Check {
    const fields = new Fields(node, '"check"', this);
    const [name, another] = fields.names();
    if (name === undefined || another !== undefined) throw this.error(node, "a check is one thing that the page can see");
    const read = (key: string) => fields.get(key);
    const slider = read("slider");
    const answered = read("answered");
    const both = read("both signs");
    const card = read("card opened");
    const coloured = read("coloured by");
    const [layer, inside, trait] = [read("layer changed"), read("inside the steered run"), read("new trait")];
    const [screened, trained, measured, tuned] = [read("screened"), read("trained"), read("measured"), read("tuned answer")];
    fields.done();
    if (slider !== null) return { kind: "slider", push: this.wanted(slider, "slider") };
    if (answered !== null) return { kind: "answered", push: this.wanted(answered, "answered") };
    if (both !== null) return { kind: "both-signs", trait: this.text(both, "both signs", short, node) };
    if (card !== null) return { kind: "card", of: this.choice(card, "card opened", ["unsteered", "steered", "question", "any"] as const) ?? "any" };
    if (coloured !== null) return { kind: "coloured-by", what: this.text(coloured, "coloured by", short, node) };
    if (this.boolean(layer, "layer changed")) return { kind: "layer-changed" };
    if (this.boolean(inside, "inside the steered run")) return { kind: "inside-run" };
    if (this.boolean(trait, "new trait")) return { kind: "new-trait" };
    if (this.boolean(screened, "screened")) return { kind: "screened" };
    if (trained !== null) return { kind: "trained", method: this.choice(trained, "trained", ["plain", "vaccine", "penalty", "ablation", "any"] as const) ?? "any" };
    if (this.boolean(measured, "measured")) return { kind: "measured" };
    if (this.boolean(tuned, "tuned answer")) return { kind: "tuned" };
    throw this.error(node, `"${name}" says nothing to look for`);
  }

  private push(node: Node, what: string): ReadonlyMap<string, number> {
    return this.coefficients(node, what, (value, name) => {
      const found = this.number(value, name, -maxCoefficient, maxCoefficient);
      if (found === null) throw this.error(node, `"${name}" needs a number`);
      return found;
    });
  }

  /** A word of a list, or null for `any`, which demands nothing. */
  private wanted(node: Node, what: string): ReadonlyMap<string, CoefficientGoal> {
    if (isScalar(node) && node.value === "any") return new Map();
    return this.coefficients(node, what, (value, name) => {
      if (isScalar(value) && (value.value === "end of band" || value.value === "beyond band")) return value.value;
      const found = this.number(value, name, -maxCoefficient, maxCoefficient);
      if (found === null) throw this.error(node, `"${name}" needs a number, "end of band" or "beyond band"`);
      return found;
    });
  }

  /** Coefficients by trait, as in `{cheerful: 2}`. */
  private coefficients<T>(node: Node, what: string, read: (value: Node | null, name: string) => T): ReadonlyMap<string, T> {
    const found = new Map<string, T>();
    if (!isMap(node) || node.items.length > 8) throw this.error(node, `"${what}" names traits with numbers, as in {cheerful: 2}`);
    const fields = new Fields(node, `"${what}"`, this);
    for (const name of fields.names()) {
      found.set(name, read(fields.get(name), name.slice(0, 40)));
    }
    return found;
  }

  private list<T>(node: Node | null, what: string, most: number, read: (node: Node) => T): T[] {
    if (node === null) return [];
    if (!isSeq(node)) throw this.error(node, `"${what}" is a list: every entry on a line that begins with "- "`);
    if (node.items.length > most) throw this.error(node, `"${what}" has ${String(node.items.length)} entries; at most ${String(most)} are read`);
    return node.items.map((item) => {
      if (!isNode(item) || isPair(item)) throw this.error(node, `an entry of "${what}" is empty`);
      return read(item);
    });
  }

  private text(node: Node | null, what: string, longest: number, owner: Node): string {
    if (node === null) throw this.error(owner, `"${what}" is missing`);
    const value: unknown = isScalar(node) ? node.value : null;
    if (typeof value !== "string" && typeof value !== "number") throw this.error(node, `"${what}" should be text; put it in quotes`);
    const found = String(value).trim();
    if (found === "") throw this.error(node, `"${what}" is empty`);
    if (found.length > longest) throw this.error(node, `"${what}" has ${String(found.length)} letters; at most ${String(longest)} are read`);
    return found;
  }

  /** Text in which `*so*` and `[[words]]` are marked; the words have to be explained somewhere. */
  private marked(node: Node | null, what: string, longest: number, owner: Node): string {
    const found = this.text(node, what, longest, owner);
    for (const block of blocksOf(found)) {
      for (const { word } of block.lines.flat()) {
        if (word !== null && meaningOf(word, this.#words) === null) throw this.error(node, `nothing explains "[[${word.slice(0, 40)}]]"; add it under "words"`);
      }
    }
    return found;
  }

  private optional(node: Node | null, what: string, longest: number): string {
    return node === null ? "" : this.marked(node, what, longest, node);
  }

  private number(node: Node | null, what: string, min: number, max: number, whole = false): number | null {
    if (node === null) return null;
    const value: unknown = isScalar(node) ? node.value : null;
    if (typeof value !== "number" || !Number.isFinite(value) || value < min || value > max || (whole && !Number.isInteger(value))) {
      throw this.error(node, `"${what}" is a ${whole ? "whole " : ""}number from ${String(min)} to ${String(max)}`);
    }
    return value;
  }

  private boolean(node: Node | null, what: string): boolean {
    if (node === null) return false;
    const value: unknown = isScalar(node) ? node.value : null;
    if (value === true || value === "yes") return true;
    if (value === false || value === "no") return false;
    throw this.error(node, `"${what}" is yes or no`);
  }

  private choice<T extends string>(node: Node | null, what: string, allowed: readonly T[]): T | null {
    if (node === null) return null;
    const value: unknown = isScalar(node) ? node.value : null;
    const found = allowed.find((one) => one === value);
    if (found === undefined) throw this.error(node, `"${what}" is one of ${allowed.join(", ")}`);
    return found;
  }
}
