/** Words that every lesson may mark without explaining them itself. */

const meanings: ReadonlyMap<string, string> = new Map([
  ["token", "A piece of text, often a word or part of one. The model reads and writes token by token; it never sees letters."],
  ["layer", "The model works on every token in steps, one after the other, called layers; this model has 30. Layer 0 is before the first step."],
  ["residual stream", "The model's inner state at one token after one layer: a list of numbers (here 576) that every layer reads and adds to."],
  ["direction", "A list of as many numbers as the inner state has: a way in which the state can change. Adding more of it goes further the same way."],
  ["trait", "A named character trait, such as cheerful, with an opposite, instructions for both sides, and questions."],
  ["trait vector", "For each layer, the average inner state over the answers given under instructions for the trait, minus the average over the answers given under the opposite instructions (response-averaged residual, positive minus negative)."],
  ["contrast set", "The answers to the same questions under two opposite instructions. Their difference makes the trait vector."],
  ["coefficient", "The number on the slider: how many times the trait vector is added to the inner state. Written α."],
  ["relative dose", "The length of what is added beside the ordinary length of the inner state at that layer. It makes pushes comparable between traits and layers."],
  ["steering", "Changing the inner state while the model writes, here by adding a multiple of a trait vector at one layer."],
  ["steered", "Written while something was added to the model's inner state."],
  ["unsteered", "Written by the model as it is, with nothing added."],
  ["reading", "How far a token's inner state points along a trait vector: its projection (a dot product with the vector, the vector's length divided out)."],
  ["calibrated reading", "A reading in standard deviations from what is ordinary for this model: 0 is ordinary, +2 is unusually much of the trait, −2 unusually little."],
  ["re-reading", "The readings of a steered answer when the model without any push reads its words afterwards. They show what the words say, without the push itself."],
  ["standard deviation", "The usual distance from the average. In a bell-shaped spread about two thirds of the values lie within one."],
  ["surprise", "How unlikely the model found a token: −log of its probability, in nats. One chance in ten is 2.3, one in a thousand 6.9."],
  ["probability", "How likely the model found this token as the next one, before it was chosen."],
  ["recommended range", "The coefficients between which the trait shows and the text stays whole; the coloured band on the slider."],
  ["control", "A comparison in which the thing that you believe in is missing. If the effect is still there, something else causes it."],
  ["random direction", "A direction drawn by chance, exactly as long as the trait vector. It stands for nothing."],
  ["flipped", "The same direction backwards: the slider to the other side of zero."],
  ["heatmap", "A text whose tokens are coloured by a number, here the calibrated reading of a trait or the surprise."],
  ["seed", "Where chance starts. The same seed, question and settings give the same words on the same machine."],
  ["greedy", "Always taking the likeliest next token (temperature 0). Nothing is left to chance."],
]);

/** The meaning of a marked word, by the lesson's own words first; null for an unknown word. */
export function meaningOf(word: string, own: ReadonlyMap<string, string>): string | null {
  return own.get(word) ?? meanings.get(word) ?? null;
}
