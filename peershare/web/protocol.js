// Generated from peershare/messages: `nox -s docs` writes it anew.

export const PROTOCOL_VERSION = 2;

/** Close codes of WebSockets: docs/protocol.md, "How a connection ends". */
export const CloseCode = {
	CLOSED: 1000,
	GOING_AWAY: 1001,
	PROTOCOL_ERROR: 1002,
	LOST: 1006,
	NOT_UTF8: 1007,
	TOO_BIG: 1009,
	FAULT: 1011,
	DRAINING: 4000,
	TOO_SLOW: 4008,
	STALLED: 4010,
	HEARTBEAT_LOST: 4009,
	FULL: 4013,
	FLOODING: 4029,
	NOT_ADMITTED: 4500,
	TOKEN_OVER: 4500,
	SIGNED_OUT: 4500,
	TAKEN_OVER: 4506,
};

/** The close codes after which a client connects again by itself. */
export const RECONNECT_CODES = new Set([1001, 1006, 1011, 4000, 4008, 4010, 4009, 4013, 4029]);

/** The range of those that newer servers may have as well. */
export const OWN_RECONNECT_CODES = {
	first: 4000,
	last: 4499,
};

/** The roles in a group, the highest first, and the lowest that may do something: docs/moderation.md. */
export const ROLES = ["owner", "moderator", "member", "guest", "observer"];
export const LOWEST_ROLE = {
	call: "guest",
	chat: "guest",
	share: "member",
	invite: "member",
	moderate: "moderator",
	record: "moderator",
	manage: "owner",
};
