// The saved session: in sessionStorage, for the same tab after a reload, or for one that takes over from another.

import { stored } from "./dom.js";

/** @import {SavedSession} from "./types" */

const storage = stored("sessionStorage", "peershare.session");

/** The session that this tab had in the group before a reload. @param {string} groupId @returns {SavedSession | null} */
export function savedSession(groupId) {
	const saved = storage.get();
	return saved?.session?.groupId === groupId ? saved : null;
}

/** @param {SavedSession} saved */
export const saveSession = (saved) => storage.set(saved);

export const forgetSession = () => storage.set(null);
