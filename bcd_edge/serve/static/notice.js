"use strict";
// A comment that is not filed yet is kept in the browser's tab, by reader and case, so that neither a key nor the end of a session loses it.
const filed = document.querySelector("[data-filed]")?.dataset.filed;
if (filed && sessionStorage.getItem("sent") === filed) for (const name of ["sent", filed]) sessionStorage.removeItem(name);

function undo() {
  const button = document.getElementById("undo"), message = document.getElementById("undone");
  if (button) button.click();
  else message.textContent = message.dataset.nothing;
}
