// letters is a word for a number, as no route that is learned would take a number for a name.
export const letters = (i) => [...i.toString(20)].map((c) => "bcdfghjklmnpqrstvwxz"[parseInt(c, 20)]).join("a");
