// The safety code among the details of a connection: to compare, and to say how that went. docs/safety-codes.md.

import { fill, h, hide, isolate, setText } from "./dom.js";

/** @import {GroupSession, Peer} from "./types" */

/** Why there is no code, and what to do. @type {Record<string, (name: string) => string>} */
const FAULTS = {
	insecure: () => "There is none: this page came without https. Open it by https.",
	often: () => "There is none: this page has had very many connections. Reload it.",
	silent: (name) => `There is none: ${name}'s page is older, came without https, or is another program.`,
	unclear: (name) => `There is none: it is not certain which certificate ${name} has. Reload the page.`,
	wrong: () => "There is none: the exchange went wrong. Reload the page.",
	changed: (name) =>
		`It is gone: ${name} has another certificate now. Somebody may have come between you. Leave the call, and join it again.`,
};

/**
 * A part of the details of a peer.
 * @param {GroupSession} session @param {() => Peer | undefined} find
 */
export function safetySection(session, find) {
	const code = h("p", { class: "code" });
	const text = h("p", { role: "status" });
	const mark = (/** @type {boolean} */ matches) => () => {
		const peer = find();
		if (peer) session.setCompared(peer, matches);
	};
	const yes = h("button", { type: "button", class: "secondary", onclick: mark(true) }, "They match");
	const no = h("button", { type: "button", class: "secondary", onclick: mark(false) }, "They don't match");
	const title = h("h3", { tabindex: "-1" }, "Safety code");
	const element = h("section", { class: "safety" }, title, code, text, h("div", { class: "choices" }, yes, no));

	function update() {
		const peer = find();
		const { state = "waiting", emoji = [], fault = "" } = peer?.safety ?? {};
		element.hidden = !peer || (state === "waiting" && peer.state !== "connected");
		if (!peer || element.hidden) return;
		const names = emoji.map(({ name }) => name).join();
		if (code.dataset.names !== names) {
			code.dataset.names = names;
			fill(
				code,
				...emoji.map(({ picture, name }) => h("span", {}, h("span", { "aria-hidden": "true" }, picture), name)),
			);
		}
		const matches = session.comparedWith(peer);
		setText(text, sentence(isolate(session.nameOf(peer.userId)), fault, state === "ready", matches));
		text.className = matches === false || fault === "changed" ? "notice bad" : "";
		hide(yes, state !== "ready" || matches === true, title);
		hide(no, state !== "ready" || matches === false, title);
	}
	return { element, update };
}

/** @param {string} name @param {string} fault @param {boolean} isReady @param {boolean | undefined} matches */
function sentence(name, fault, isReady, matches) {
	if (fault) return FAULTS[fault](name);
	if (matches) return `You have compared it: nobody sits between you and ${name}.`;
	if (matches === false)
		return `Somebody sits between you and ${name}. Say nothing here that others must not know, leave the call, and talk in another way or over a server that you trust.`;
	if (!isReady) return "Both browsers are agreeing on it.";
	return `Read the names aloud. Does ${name} see the same? Then nobody sits between you, not even this server.`;
}
