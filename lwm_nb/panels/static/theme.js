// Tells the kernel whether the page is dark: JupyterLab says so in an attribute of the body.

function render({ model }) {
  const tell = () => {
    model.set("dark", document.body.dataset.jpThemeLight === "false");
    model.save_changes();
  };
  const watch = new MutationObserver(tell);
  watch.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  tell();
  return () => watch.disconnect();
}

export default { render };
