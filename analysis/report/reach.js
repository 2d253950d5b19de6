// What is wider than the screen scrolls sideways: then, and only then, the Tab key stops there.

function reachScrolling() {
  for (const box of document.querySelectorAll(".wide, .plots")) {
    const scrolls = box.scrollWidth > box.clientWidth;
    for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", "scrolls sideways"]]) {
      if (scrolls) box.setAttribute(name, value);
      else box.removeAttribute(name);
    }
  }
}

reachScrolling();
window.addEventListener("resize", reachScrolling);
