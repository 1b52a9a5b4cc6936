// Accounts, for whoever has one or wants one: to sign in and to register, the settings, and one's own groups.

import { BASE, fill, h, hide, isolate, showDialog, toast } from "./dom.js";
import { field } from "./landing.js";
import { asyncHandler, errorMessage } from "./notice.js";
import { RefusedError } from "./peershare.js";
import { SIGNED_OUT, ask, isSignedOut, signIn } from "./sign-in.js";

/** @import {Account, AccountDevice, Child, FormField, OwnGroup} from "./types" */

const FIRST_GROUPS = 5; // shown; the others after a click
/** Which field a refusal is about, by its code; another one is said below the fields. @type {Record<string, string[]>} */
const FIELDS = {
	WRONG_CREDENTIALS: ["password"],
	NAME_TAKEN: ["username"],
	EMAIL_TAKEN: ["email"],
	INVITE_INVALID: ["invite"],
};
const BROWSERS = { "Edg/": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari" };
const SYSTEMS = {
	Android: "Android",
	iPhone: "iPhone",
	iPad: "iPad",
	Windows: "Windows",
	"Mac OS X": "macOS",
	CrOS: "ChromeOS",
	Linux: "Linux",
};

/** What the list of devices calls this one. */
function deviceName() {
	const find = (/** @type {Record<string, string>} */ names) =>
		Object.entries(names).find(([part]) => navigator.userAgent.includes(part))?.[1];
	return [find(BROWSERS) ?? "A browser", find(SYSTEMS)].filter(Boolean).join(" on ");
}

/** As who is signed in. If nobody is any more, the page says so. @param {string} method @param {string} path @param {object} [said] */
async function askAsAccount(method, path, said) {
	try {
		return await ask(method, path, said, await signIn.token());
	} catch (error) {
		if (!isSignedOut(error)) throw error;
		signIn.clear();
		document.querySelector("dialog")?.close();
		throw new Error(SIGNED_OUT);
	}
}

// --- forms ---

/** @param {string} name @param {string} label @param {string} missing @param {Record<string, unknown>} [properties] @returns {FormField} */
function textField(name, label, missing, properties) {
	const more = { id: `account-${name}`, name, autocapitalize: "none", ...properties };
	return Object.assign(field(label, more), { name, missing });
}

/** @param {string} name @param {string} label @param {"current-password" | "new-password"} autocomplete @param {string} [id] */
const passwordField = (name, label, autocomplete, id = `account-${name}`) =>
	textField(name, label, "Enter a password.", { type: "password", autocomplete, id });

/** @param {string} missing @param {string} value */
const emailField = (missing = "", value = "") =>
	textField("email", missing ? "E-mail address" : "E-mail address, for a forgotten password (may be empty)", missing, {
		type: "email",
		autocomplete: "email",
		value,
	});

/** @param {FormField[]} fields */
function revealBox(fields) {
	const input = h("input", {
		type: "checkbox",
		id: `show-${fields[0].name}`,
		onchange: () => fields.forEach((one) => (one.input.type = input.checked ? "text" : "password")),
	});
	return h("p", { class: "check" }, input, h("label", { htmlFor: input.id }, "Show the password"));
}

/**
 * A form that says beside its fields what is wrong.
 * @param {FormField[]} fields @param {HTMLButtonElement} button @param {(said: Record<string, string>) => Promise<void>} submit
 * @param {Child[]} more above the button
 */
function accountForm(fields, button, submit, ...more) {
	const fault = h("p", { class: "error", role: "alert" });
	let isRunning = false;

	/** @param {SubmitEvent} event */
	async function onSubmit(event) {
		event.preventDefault();
		if (isRunning) return;
		for (const one of fields) one.showError("");
		fault.textContent = "";
		const empty = fields.find(({ input, missing }) => !input.value && missing);
		if (empty) return empty.showError(empty.missing);
		isRunning = true;
		const filled = fields.filter(({ input }) => input.value);
		await submit(Object.fromEntries(filled.map(({ name, input }) => [name, input.value]))).catch(showFault);
		isRunning = false;
	}

	/** @param {unknown} error */
	function showFault(error) {
		const code = error instanceof RefusedError ? error.code : "";
		const [find, text] = [
			(/** @type {string} */ wanted) => fields.find(({ name }) => name === wanted),
			errorMessage(error),
		];
		// What is wrong with a password is said of the new one, if there are two.
		const invalid = /^password/i.test(text)
			? ["newPassword", "password"]
			: [/^email/.test(text) ? "email" : "username"];
		const about = (code === "INVALID_REQUEST" ? invalid : (FIELDS[code] ?? [])).map(find).find(Boolean);
		if (!about) fault.textContent = text;
		else if (about.name === "email" && code === "INVALID_REQUEST") about.showError("This is not an address.");
		else about.showError(code === "WRONG_CREDENTIALS" && !find("username") ? "The password is wrong." : text);
	}

	const properties = { class: "stack", noValidate: true, onsubmit: onSubmit };
	return h("form", properties, ...fields.map(({ element }) => element), ...more, fault, button);
}

// --- coming in ---

/** @param {HTMLDialogElement} dialog @param {string} path @param {Record<string, string>} said */
async function enter(dialog, path, said) {
	signIn.set(await ask("POST", path, { ...said, device: deviceName() }));
	dialog.close();
	toast(`You are signed in as ${isolate(said.username)}.`);
}

/** Ask who it is: by a password, or at another provider. */
export async function showSignIn() {
	const [{ registration, mail }, { providers }] = await Promise.all([
		signIn.learn(),
		ask("GET", "/providers").catch(() => ({ providers: [] })),
	]);
	const username = textField("username", "Name", "Enter the name of your account.", {
		autocomplete: "username",
		dir: "auto",
	});
	const password = passwordField("password", "Password", "current-password");
	const form = accountForm(
		[username, password],
		h("button", { class: "primary" }, "Sign in"),
		(said) => enter(dialog, "/login", said),
		revealBox([password]),
	);
	const others = providers.map((/** @type {{name: string, label: string}} */ { name, label }) =>
		h(
			"button",
			{ type: "button", class: "secondary", onclick: () => leaveFor(name) },
			`Sign in with ${isolate(label)}`,
		),
	);
	const register = () => {
		dialog.close();
		showRegistration(registration === "invite", mail === true);
	};
	const forgot = () => {
		dialog.close();
		showForgotten();
	};
	const dialog = showDialog(
		"account",
		"Sign in",
		others.length > 0 &&
			h("div", { class: "stack" }, ...others, h("p", { class: "or" }, h("span", {}, "or with a password"))),
		form,
		mail &&
			h(
				"p",
				{ class: "other" },
				h("button", { type: "button", class: "secondary small", onclick: forgot }, "I have forgotten my password"),
			),
		registration !== "closed" &&
			h(
				"p",
				{ class: "other" },
				"No account yet? ",
				h("button", { type: "button", class: "secondary small", onclick: register }, "Make an account"),
			),
	);
	username.input.focus();
}

/** @param {string} provider */
function leaveFor(provider) {
	signIn.expect();
	const query = new URLSearchParams({ to: location.pathname, device: deviceName() });
	location.assign(`${BASE}api/auth/oidc/${provider}/start?${query}`);
}

/** Have a link sent that sets a new password. */
function showForgotten() {
	const email = emailField("Enter the address that your account has confirmed.");
	const dialog = showDialog(
		"account",
		"A new password",
		accountForm([email], h("button", { class: "primary" }, "Send me a link"), async (said) => {
			await ask("POST", "/forgot", said);
			dialog.close();
			toast("If an account has confirmed this address, a mail with a link is on its way.");
		}),
	);
	email.input.focus();
}

/** Do what a link in a mail is for. @param {string} kind @param {string} code */
export async function followLink(kind, code) {
	if (kind === "confirm") {
		// Who has the mail may not be who made the account.
		const token = await signIn.token().catch((error) => {
			throw isSignedOut(error)
				? new Error("Sign in to your account, and then open the link in the mail again.")
				: error;
		});
		await ask("POST", "/confirm", { code }, token);
		toast("Your e-mail address is confirmed.");
		return signIn.renew(); // with the account as it is now
	}
	const password = passwordField("newPassword", "New password, of 8 characters or more", "new-password");
	const form = accountForm(
		[password],
		h("button", { class: "primary" }, "Set the password"),
		async (said) => {
			await ask("POST", "/reset", { ...said, code });
			dialog.close();
			toast("The password is changed, and all devices are signed out. Sign in with the new one.");
		},
		revealBox([password]),
	);
	const dialog = showDialog("account", "A new password", form);
	password.input.focus();
}

/** @param {boolean} needsInvitation @param {boolean} hasMail */
function showRegistration(needsInvitation, hasMail) {
	const username = textField("username", "Name", "Enter a name. Others will see it.", {
		autocomplete: "username",
		maxLength: 50,
		dir: "auto",
	});
	const password = passwordField("password", "Password, of 8 characters or more", "new-password");
	const invite = textField("invite", "Invitation", "Enter the invitation that you were given.", {
		autocomplete: "one-time-code",
	});
	const fields = [username, password, hasMail && emailField(), needsInvitation && invite].filter(
		(one) => one !== false,
	);
	const dialog = showDialog(
		"account",
		"Make an account",
		h("p", {}, "You are the same person on each of your devices then, and find your groups again."),
		accountForm(
			fields,
			h("button", { class: "primary" }, "Make the account"),
			(said) => enter(dialog, "/register", said),
			revealBox([password]),
		),
	);
	username.input.focus();
}

// --- the settings of an account ---

/** Show the account of who is signed in. */
export async function showAccount() {
	const { devices } = await askAsAccount("GET", "/devices");
	const { account } = signIn;
	if (!account) return;
	const close = () => dialog.close();
	const dialog = showDialog(
		"account",
		"Your account",
		h("p", {}, "You are signed in as ", h("strong", { dir: "auto" }, isolate(account.username)), "."),
		h(
			"p",
			{},
			h("button", { type: "button", class: "secondary", onclick: asyncHandler(() => signOut(close)) }, "Sign out"),
		),
		...deviceList(devices),
		h("h3", {}, account.hasPassword ? "Change the password" : "Set a password"),
		passwordForm(account.hasPassword, account.username),
		signIn.about?.mail && emailForm(account),
		h("h3", {}, "Delete the account"),
		deletion(account.hasPassword, close),
	);
}

/** @param {() => void} close */
async function signOut(close) {
	await ask("POST", "/logout", {});
	signIn.clear();
	close();
	toast("You are signed out.");
}

/** @param {AccountDevice[]} devices */
function deviceList(devices) {
	const heading = h("h3", { tabindex: "-1" }, "Devices");
	const list = h(
		"ul",
		{ class: "members" },
		...devices.map(({ id, name, seenAt, isCurrent }) => {
			const label = name || "A program";
			const end = async () => {
				await askAsAccount("DELETE", `/devices/${id}`);
				row.remove();
				heading.focus();
				toast(`${isolate(label)} is signed out.`);
			};
			const button = h(
				"button",
				{ type: "button", class: "secondary small", "aria-label": `Sign out ${label}`, onclick: asyncHandler(end) },
				"Sign out",
			);
			const state = isCurrent ? "This device" : `Last seen on ${date(seenAt)}`;
			const text = h(
				"span",
				{ class: "text" },
				h("span", { class: "name", dir: "auto" }, label),
				h("span", { class: "state" }, state),
			);
			const row = h("li", {}, text, !isCurrent && button);
			return row;
		}),
	);
	return [heading, list];
}

/** @param {number} when */
const date = (when) => new Date(when).toLocaleDateString([], { dateStyle: "medium" });

/** @param {boolean} hasPassword @param {string} username for password managers */
function passwordForm(hasPassword, username) {
	const old = passwordField("password", "Password until now", "current-password");
	const fresh = passwordField("newPassword", "New password, of 8 characters or more", "new-password");
	const fields = hasPassword ? [old, fresh] : [fresh];
	const form = accountForm(
		fields,
		h("button", { class: "secondary" }, hasPassword ? "Change the password" : "Set the password"),
		async (said) => {
			const { signedOut } = await askAsAccount("POST", "/password", said);
			for (const { input } of fields) input.value = "";
			toast(`The password is changed.${signedOut ? " All other devices are signed out." : ""}`);
		},
		revealBox(fields),
	);
	form.prepend(h("input", { hidden: true, autocomplete: "username", value: username }));
	return form;
}

/** @param {Account} account */
function emailForm({ email, emailConfirmed, hasPassword }) {
	const address = emailField("", email ?? "");
	const password = passwordField("password", "Password", "current-password", "account-email-password");
	const state = email && (emailConfirmed ? "It is confirmed." : "It is not confirmed yet: open the link in the mail.");
	const form = accountForm(
		hasPassword ? [address, password] : [address],
		h("button", { class: "secondary" }, "Change the address"),
		async (said) => {
			await askAsAccount("POST", "/email", said);
			password.input.value = "";
			toast(said.email ? `A mail with a link is on its way to ${said.email}.` : "The account has no address now.");
		},
	);
	return h("section", { "aria-label": "E-mail" }, h("h3", {}, "E-mail"), state && h("p", {}, state), form);
}

/** @param {boolean} hasPassword @param {() => void} close */
function deletion(hasPassword, close) {
	const password = passwordField("password", "Password", "current-password", "account-delete");
	const form = accountForm(
		hasPassword ? [password] : [],
		h("button", { class: "danger" }, "Delete it for good"),
		async (said) => {
			await askAsAccount("POST", "/delete", said);
			signIn.clear();
			close();
			toast("Your account is deleted.");
		},
	);
	const text =
		"You are signed out on all devices, your list of groups is gone, and somebody else may take your name. Groups that you made stay. There is no way back.";
	return h("details", {}, h("summary", {}, "I want to delete my account"), h("p", {}, text), form);
}

// --- one's own groups ---

/** Show the groups of who is signed in, the last visited first. @param {HTMLElement} place hidden where there are none */
export async function showGroups(place) {
	/** @type {{groups: OwnGroup[]}} */
	const { groups } = await askAsAccount("GET", "/groups");
	if (!signIn.account) return;
	const title = h("h2", { tabindex: "-1" }, "Your groups");
	const list = h("ul", { class: "members" });
	const all = h("button", { type: "button", class: "secondary small", onclick: showAll }, `Show all ${groups.length}`);
	const rows = groups.map((group) => groupRow(group, update));

	function update() {
		place.hidden = !list.childElementCount && all.hidden;
		if (place.hidden) document.querySelector("h1")?.focus();
		else title.focus();
	}
	function showAll() {
		list.append(...rows.slice(FIRST_GROUPS));
		hide(all, true, title);
	}
	list.append(...rows.slice(0, FIRST_GROUPS));
	all.hidden = groups.length <= FIRST_GROUPS;
	fill(place, h("section", { class: "card", "aria-label": "Your groups" }, title, list, all));
	place.hidden = groups.length === 0;
}

/** @param {OwnGroup} group @param {() => void} removed */
function groupRow({ id, name, isOwner, visitedAt }, removed) {
	const forget = async () => {
		await askAsAccount("DELETE", `/groups/${id}`);
		row.remove();
		removed();
		toast(`${isolate(name)} is not in your list any more. Its link is as good as before.`);
	};
	const state = `${isOwner ? "Made by you, visited" : "Visited"} on ${date(visitedAt)}`;
	const link = h("a", { class: "name link", dir: "auto", href: `${BASE}group/${id}` }, name);
	const text = h("span", { class: "text" }, link, h("span", { class: "state" }, state));
	const button = h(
		"button",
		{ type: "button", class: "quiet small", "aria-label": `Forget ${name}`, onclick: asyncHandler(forget) },
		"Forget",
	);
	const row = h("li", {}, text, button);
	return row;
}
