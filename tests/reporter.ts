/** Where a run of tests tells what it found: on the terminal, and for the task runner in a file. */
import type { ReporterDescription } from "@playwright/test";

const report = process.env["TRIMTAB_REPORT"];

export const reporter: ReporterDescription[] = [["list"], ...(report === undefined ? [] : [["json", { outputFile: report }] as ReporterDescription])];
