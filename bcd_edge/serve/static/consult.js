"use strict";
// The file's text goes into the form, so that it is sent with the session's token like every other form.
const LARGEST = 1e6;
const form = document.getElementById("import"), file = form.querySelector("input[type=file]"), problem = document.getElementById("problem");
form.addEventListener("submit", async event => {
  if (form.elements.opinion.value) return;
  event.preventDefault();
  const chosen = file.files[0], text = chosen.size > LARGEST ? "" : await chosen.text();
  if (!text.trimStart().startsWith("{")) { problem.textContent = problem.dataset.wrong; return; }
  form.elements.opinion.value = text;
  form.submit();
});
file.addEventListener("change", () => { form.elements.opinion.value = problem.textContent = ""; });
document.querySelectorAll("input[readonly]").forEach(link => link.addEventListener("focus", () => link.select()));
