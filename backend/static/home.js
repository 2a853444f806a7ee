// The commands name the address this page was opened under; the status is asked of the server itself.
"use strict";

const root = new URL("..", document.currentScript.src); // with the prefix, where a proxy strips one
const statusPill = document.getElementById("status");
const statusText = document.getElementById("status-text");

function show(state, sentence) {
  statusPill.dataset.state = state;
  statusText.textContent = sentence;
}

async function refreshStatus() {
  try {
    const answer = await fetch(new URL("ready", root), { cache: "no-store" });
    if (answer.ok) return show("ready", "Ready");
    const { checks = {} } = await answer.json();
    const failing = Object.keys(checks).filter((name) => !checks[name].ok);
    show("waiting", failing.length ? `Up, waiting for ${failing.join(", ")}` : "Up, not ready yet");
  } catch {
    show("away", "Not answering");
  }
}

function addCopyButton(block) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  block.append(button);
}

for (const origin of document.querySelectorAll(".origin")) origin.textContent = root.href.replace(/\/$/, "");
if (navigator.clipboard) document.querySelectorAll(".code").forEach(addCopyButton); // only https and localhost have it

// On return to the page, not by the clock: asking the database every minute would keep it from ever sleeping.
document.addEventListener("visibilitychange", () => document.hidden || refreshStatus());
refreshStatus();
