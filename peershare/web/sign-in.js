// Who is signed in in this browser, where the server keeps accounts (docs/accounts.md). Guests wait for nothing of it.

import { BASE, avatar, fill, h, isolate, stored, toast } from "./dom.js";
import { asyncHandler } from "./notice.js";
import { RefusedError } from "./peershare.js";

/** @import {About, Account, SignedIn} from "./types" */

const TOKEN_AGE = 600_000; // ms: the server's tokens are good for 15 minutes
export const SIGNED_OUT = "You have been signed out. Sign in again, or go on as a guest.";

/** Its name, while somebody is signed in here; empty while somebody is at another provider to sign in. */
const remembered = stored("localStorage", "peershare.account");

/**
 * Ask a route of accounts. Rejects with a message for people.
 * @param {string} method @param {string} path @param {object} [said] @param {string} [token] @returns {Promise<any>}
 */
export async function ask(method, path, said, token) {
	const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
	// If the page is closed meanwhile, the browser still gets the cookies of the answer.
	const options = { method, headers, body: said && JSON.stringify(said), keepalive: true };
	const answer = await fetch(`${BASE}api/auth${path}`, options).catch(() => null);
	if (answer?.status === 204) return {};
	const found = await answer?.json().catch(() => null);
	if (!found) throw new Error("The server can't be reached. Try again in a moment.");
	if (answer?.ok) return found;
	throw new RefusedError({ code: found.code, message: found.error, details: found });
}

/** True if an error says that nobody is signed in. @param {unknown} error */
export const isSignedOut = (error) => error instanceof RefusedError && error.code === "NOT_SIGNED_IN";

/** The sign-in of this browser. Its event is "change". */
class SignIn extends EventTarget {
	/** @type {Account | null} */
	account = null;
	/** What the server offers, once it is known. @type {About | null} */
	about = null;
	#token = "";
	#madeAt = 0;
	/** @type {Promise<void> | null} */
	#renewing = null;

	/** True if somebody may be signed in: the cookies can't be seen. */
	get mayBe() {
		return remembered.get() !== null;
	}

	/** True if it could help to sign in. */
	get isOffered() {
		return this.account === null && this.about?.accounts === true;
	}

	/** Look who is signed in, at the start. A browser that never was is not asked for. */
	async start() {
		const name = remembered.get();
		if (this.mayBe) await this.renew().catch((error) => name && isSignedOut(error) && toast(SIGNED_OUT, "bad"));
	}

	/** Have the next tokens. Rejects where nobody is signed in any more, or the server can't tell. */
	renew() {
		return (this.#renewing ??= this.#renew().finally(() => (this.#renewing = null)));
	}

	async #renew() {
		try {
			// One tab after another, each with the cookie that the one before was given: an older one counts as stolen.
			this.set(await navigator.locks.request("peershare.refresh", () => ask("POST", "/refresh", {})));
		} catch (error) {
			if (isSignedOut(error)) this.clear();
			throw error;
		}
	}

	/** @param {SignedIn} signedIn */
	set({ account, accessToken }) {
		this.account = account;
		this.#token = accessToken;
		this.#madeAt = Date.now();
		remembered.set(account.username);
		this.dispatchEvent(new Event("change"));
	}

	/** Nobody is signed in. */
	clear() {
		this.account = null;
		this.#token = "";
		remembered.set(null);
		this.dispatchEvent(new Event("change"));
	}

	/** Somebody leaves the page to sign in at another provider, and may come back signed in. */
	expect() {
		remembered.set("");
	}

	async token() {
		const age = Date.now() - this.#madeAt; // which may be anything, when the clock was set
		if (!this.#token || age < 0 || age > TOKEN_AGE) await this.renew();
		return this.#token;
	}

	/** A token for `hello`. Where nobody is signed in any more, one that the server refuses, so that the session learns it. */
	sessionToken = () => this.token().catch((error) => (isSignedOut(error) ? "cookie" : Promise.reject(error)));

	/** @returns {Promise<About>} */
	async learn() {
		const none = { accounts: false, registration: "closed" };
		// Without https there are no cookies.
		return (this.about ??= isSecureContext ? await ask("GET", "").catch(() => none) : none);
	}
}

export const signIn = new SignIn();

/** The button for a screen's head: to sign in, or to one's account. It is hidden where the server keeps none. */
export function accountButton() {
	const button = h("button", {
		type: "button",
		class: "quiet small account",
		hidden: true,
		"aria-haspopup": "dialog",
		onclick: asyncHandler(async () => {
			const { showAccount, showSignIn } = await import("./account.js");
			await (signIn.account ? showAccount() : showSignIn());
		}),
	});
	const update = () => {
		const name = signIn.account?.username;
		const label = [
			h("span", { class: "visually-hidden" }, "Your account: "),
			h("span", { class: "name" }, isolate(name ?? "")),
		];
		fill(button, ...(name ? [avatar(name), ...label] : ["Sign in"]));
		button.hidden = !signIn.about?.accounts;
	};
	signIn.learn().then(update);
	return { element: button, update };
}
