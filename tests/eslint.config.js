import ts from "typescript-eslint";

export default ts.config(
  { ignores: ["node_modules/", "test-results/", "playwright-report/", "golden/"] },
  ...ts.configs.strict,
  { rules: { eqeqeq: ["error", "always", { null: "ignore" }], "no-console": "off" } },
);
