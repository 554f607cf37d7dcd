
// ---- eyes.js: several panes over the whole width, as the dream panel has them, and nothing else -------------
EXTRAS.push({
  build(p) {
    p.root.setAttribute("aria-label", "Eye panel");
    p.root.classList.add("lwm-dreams");
  },
  draw() {},
  listen() {},
});
