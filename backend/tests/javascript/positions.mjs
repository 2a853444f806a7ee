/*
What npm's fractional-indexing makes of positions. It gets [[before, after], …], each a key or null, and prints the key
between each pair, or null if the package refuses it.
*/

import { readFileSync } from "node:fs";
import { generateKeyBetween } from "fractional-indexing";

const answers = JSON.parse(readFileSync(0, "utf8")).map(([before, after]) => {
  try {
    return generateKeyBetween(before, after);
  } catch {
    return null;
  }
});
console.log(JSON.stringify(answers));
