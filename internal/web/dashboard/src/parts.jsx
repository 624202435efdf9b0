// Small parts that all pages are made of.
import { useEffect, useRef, useState } from "preact/hooks";
import { pieces } from "./format.js";

// Text is what others wrote: never anything but text, and nothing in it goes unseen.
export const Text = ({ children, class: kind }) => (
  <bdi class={kind}>
    {pieces(String(children ?? "")).map(([piece, name]) => (name ? <span class="codepoint">{piece}</span> : piece))}
  </bdi>
);

// Prose is a sentence of the agent, which has names of what others wrote between back quotes.
export const Prose = ({ children }) => String(children ?? "").split(/`([^`]+)`/).map((piece, i) => (i % 2 ? <code key={i}><Text>{piece}</Text></code> : <Text key={i}>{piece}</Text>));

const unjudged = { name: "not judged" };

export const Level = ({ level, why }) => {
  const { name, severe } = level ?? unjudged;
  return (
    <span class={`level level-${level ? name : "none"}`} title={level ? undefined : why}>
      <span class="dot" aria-hidden="true" />
      {name}{severe ? ", severe" : ""}
    </span>
  );
};

export const Severity = ({ severity, state }) => (
  <span class={`level level-${{ critical: "critical", error: "critical", warning: "poor", info: "excellent" }[severity] ?? "none"}`}>
    <span class="dot" aria-hidden="true" />
    {severity || "no severity"}{state === "pending" ? ", pending" : ""}
  </span>
);

export const Panel = ({ title, note, actions, children, class: kind = "" }) => (
  <section class={`panel ${kind}`} aria-label={title}>
    <header>
      <h2>{title}</h2>
      {note && <p class="note">{note}</p>}
      {actions}
    </header>
    {children}
  </section>
);

export const Tile = ({ label, value, note, level }) => (
  <div class={`tile ${level ? `tile-${level}` : ""}`}>
    <dt>{label}</dt>
    <dd>
      {value}
      {note && <small>{note}</small>}
    </dd>
  </div>
);

export const Empty = ({ title, children }) => (
  <div class="empty">
    <p><strong>{title}</strong></p>
    {children}
  </div>
);

export const Trouble = ({ error }) => error ? <p class="trouble" role="alert">{sentence(error.message)}</p> : null;

export const sentence = (text) => text ? text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".") : "";

export const Copy = ({ text, label = "Copy" }) => {
  const [said, say] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
    } catch {
      say("Select and copy it by hand");
    }
    setTimeout(() => say(""), 2000);
  };
  return (
    <>
      <button type="button" onClick={copy}>{label}</button> <span role="status">{said}</span>
    </>
  );
};

// Scroll is a region that may be wider than the screen, and that keys can scroll.
export const Scroll = ({ label, children, class: kind = "" }) => {
  const region = useRef(null);
  const [wide, setWide] = useState(false);
  useEffect(() => {
    const look = new ResizeObserver(() => {
      const e = region.current;
      if (e) setWide(e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight);
    });
    look.observe(region.current);
    look.observe(region.current.firstElementChild);
    return () => look.disconnect();
  }, []);
  return <div ref={region} class={`scroll ${kind}`} {...(wide ? { role: "region", "aria-label": label, tabIndex: 0 } : {})}>{children}</div>;
};

export const Bar = ({ parts, label }) => {
  const sum = parts.reduce((s, p) => s + (p.value || 0), 0);
  return (
    <span class="bar" role="img" aria-label={label} title={label}>
      {sum > 0 && parts.map((p) => <span class={`part ${p.class}`} style={{ width: `${(100 * (p.value || 0)) / sum}%` }} />)}
    </span>
  );
};
