// Light, dark, or as the system is.
import { useEffect, useState } from "preact/hooks";

const key = "perfagent.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

const stored = () => {
  try {
    return localStorage.getItem(key) || "auto";
  } catch {
    return "auto"; // a browser that keeps nothing
  }
};

let chosen = stored();

export const shownTheme = () => (chosen === "auto" ? (dark.matches ? "dark" : "light") : chosen);

const apply = () => {
  document.documentElement.dataset.theme = shownTheme();
  listeners.forEach((f) => f(shownTheme()));
};

export const chosenTheme = () => chosen;

export const setTheme = (theme) => {
  chosen = theme;
  try {
    localStorage.setItem(key, theme);
  } catch {
    // then it holds until the page is closed
  }
  apply();
};

dark.addEventListener("change", apply);
apply();

export const useTheme = () => {
  const [theme, set] = useState(shownTheme);
  useEffect(() => {
    listeners.add(set);
    set(shownTheme());
    return () => listeners.delete(set);
  }, []);
  return theme;
};
