"use strict";
// Keys of the worklist and of the list of patients: s starts, j and k move, / searches, z undoes; Enter opens, as for every link.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const links = [...document.querySelectorAll("a.open")];
  const at = links.indexOf(document.activeElement);
  if (event.key === "s") document.getElementById("start")?.click();
  else if (event.key === "j") links[Math.min(at + 1, links.length - 1)]?.focus();
  else if (event.key === "k") links[Math.max(at - 1, 0)]?.focus();
  else if (event.key === "z" && document.getElementById("undone")) undo();
  else if (event.key === "/") document.querySelector("input[type=search]").focus();
  else return;
  event.preventDefault();
});
