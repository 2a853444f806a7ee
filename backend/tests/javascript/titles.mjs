// Titles → the same in the order of ICU's root collation, each with how it compares with the one before.
import { readFileSync } from "node:fs";

const titles = JSON.parse(readFileSync(0, "utf8"));
const { compare } = new Intl.Collator("und", { numeric: true, sensitivity: "accent" });
titles.sort(compare);
console.log(JSON.stringify(titles.map((title, n) => [title, n && Math.sign(compare(titles[n - 1], title))])));
