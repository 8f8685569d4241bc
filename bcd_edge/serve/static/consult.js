"use strict";
// The file's text goes into the form, so that it is sent with the session's token like every other form.
const form = document.getElementById("import"), file = form.querySelector("input[type=file]");
form.addEventListener("submit", async event => {
  if (form.elements.opinion.value) return;
  event.preventDefault();
  form.elements.opinion.value = await file.files[0].text();
  form.submit();
});
file.addEventListener("change", () => { form.elements.opinion.value = ""; });
document.querySelectorAll("input[readonly]").forEach(link => link.addEventListener("focus", () => link.select()));
