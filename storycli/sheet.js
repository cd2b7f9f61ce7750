"use strict";
// A click on a candidate adds it to the command that films the choice; a click on the one in use takes it back.
const bar = document.querySelector(".choice");
const [code, copy] = [bar.querySelector("code"), bar.querySelector("button")];
const chosen = new Map();

document.querySelectorAll(".candidates button").forEach((button) => button.addEventListener("click", () => {
  const { plot, candidate } = button.dataset;
  const inUse = button.parentElement.classList.contains("taken");
  if (inUse || chosen.get(plot) === candidate) chosen.delete(plot);
  else chosen.set(plot, candidate);
  button.closest("ul").querySelectorAll("button").forEach((other) =>
    other.setAttribute("aria-pressed", String(chosen.get(plot) === other.dataset.candidate)));
  const flags = [...chosen].sort((one, other) => one[0] - other[0]).map((pair) => ` --choose ${pair.join("=")}`);
  code.textContent = bar.dataset.command + flags.join("");
  copy.textContent = "Copy";
  bar.hidden = chosen.size === 0;
}));

copy.addEventListener("click", async () => {
  const range = document.createRange();
  range.selectNodeContents(code);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  try { await navigator.clipboard.writeText(code.textContent); } catch { document.execCommand("copy"); }
  copy.textContent = "Copied";
});
