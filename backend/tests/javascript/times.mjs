/*
What Temporal makes of times. It gets [[kind, text], …] and prints for each [the canonical text, the moment in UTC or
null], or null if Temporal refuses it.

temporal-polyfill is an implementation of its own and takes zones from Node, so this shares nothing with ours.
*/

import { readFileSync } from "node:fs";
import { Temporal } from "temporal-polyfill/full";

const toSeconds = { smallestUnit: "second", calendarName: "never" };
const read = {
  date: (text) => [Temporal.PlainDate.from(text).toString(toSeconds), null],
  floating: (text) => [Temporal.PlainDateTime.from(text).toString(toSeconds), null],
  instant: (text) => {
    const canonical = Temporal.Instant.from(text).toString(toSeconds);
    return [canonical, canonical];
  },
  zoned: (text) => {
    const time = Temporal.ZonedDateTime.from(text, { offset: "reject", disambiguation: "compatible" });
    return [time.toString(toSeconds), time.toInstant().toString(toSeconds)];
  },
};

const answers = JSON.parse(readFileSync(0, "utf8")).map(([kind, text]) => {
  try {
    return read[kind](text);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
});
console.log(JSON.stringify(answers));
