// Which time is looked at.
import { useState } from "preact/hooks";
import { clock, day } from "./format.js";
import { change, rangeNames, spanOf, usePlace } from "./url.js";

const local = (s) => {
  const d = new Date(s * 1000);
  return `${day(d)}T${clock(d)}`;
};

export const Range = () => {
  const { parameters } = usePlace();
  const span = spanOf(parameters);
  const [open, setOpen] = useState(false);
  const choose = (event) => {
    const { value } = event.target;
    if (value === "custom") {
      setOpen(true);
      return;
    }
    setOpen(false);
    change({ range: value, from: "", to: "" });
  };
  return (
    <div class="range">
      <label>
        <span class="hidden">Time range</span>
        <select value={open || !span.live ? "custom" : span.name} onChange={choose}>
          {Object.entries(rangeNames).map(([key, name]) => <option key={key} value={key}>{name}</option>)}
          <option value="custom">From … to …</option>
        </select>
      </label>
      {(open || !span.live) && <Custom key={`${span.from}-${span.to}`} span={span} close={() => setOpen(false)} />}
    </div>
  );
};

const Custom = ({ span, close }) => {
  const [from, setFrom] = useState(local(span.from));
  const [to, setTo] = useState(local(span.to));
  const [wrong, setWrong] = useState("");
  const apply = (event) => {
    event.preventDefault();
    const [a, b] = [new Date(from), new Date(to)];
    if (!(b - a >= 30_000)) {
      setWrong("The end must be half a minute or more after the beginning.");
      return;
    }
    setWrong("");
    close();
    change({ range: "", from: a.toISOString(), to: b.toISOString() });
  };
  return (
    <form onSubmit={apply}>
      <label>From <input type="datetime-local" step="1" required value={from} onInput={(e) => setFrom(e.target.value)} /></label>
      <label>to <input type="datetime-local" step="1" required value={to} onInput={(e) => setTo(e.target.value)} /></label>
      <button type="submit">Show</button>
      <button type="button" onClick={() => { close(); change({ range: "15m", from: "", to: "" }); }}>Live</button>
      {wrong && <span role="alert" class="trouble">{wrong}</span>}
    </form>
  );
};
