// Before anything is drawn, so that no page flashes: the theme that was chosen here last. No module, since those wait.
(() => {
  const chosen = localStorage.getItem('rushgate.theme');
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
})();
