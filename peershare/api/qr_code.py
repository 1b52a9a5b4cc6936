"""QR codes of groups' links, as SVG.

Drawing one takes about a millisecond, which nobody else shall wait for: it is done in a thread, one at a
time. Drawn codes are kept. New ones are counted by address, since a link has in it whatever
host was asked for.
"""

import re

import trio
import zxingcpp

from peershare.core.addresses import Allowances
from peershare.core.limits import RateRules

# More than all the groups that an address may make in an hour, opened in one moment; and whoever goes on
# without end takes about a hundredth of a core.
_DRAWN = RateRules(rate=10, burst=60)
# Of at most 8 KiB: `is_linkable` says how long a host may be.
_KEPT = 256

# Without the frame in which the library draws: its size in modules is all that is needed of it.
_FRAME = re.compile(r'<svg width="(\d+)" height="\d+"[^>]*>.*?(<rect.*?)</g>', re.DOTALL)


class QrCodes:
    """Draw links, each once."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}  # the one that was asked for last stands last
        self._drawing = trio.CapacityLimiter(1)
        self._allowances = Allowances(_DRAWN)

    async def draw(self, link: str, address: str | None) -> bytes | float:
        """Give the SVG; or in how many seconds `address` may have another drawn. None is not counted."""
        if link not in self._kept:
            wait = 0.0 if address is None else self._allowances.ask(address, trio.current_time())
            if wait:
                return wait
            async with self._drawing:
                if link not in self._kept:  # nobody else had it drawn meanwhile
                    self._kept[link] = await trio.to_thread.run_sync(_draw, link)
        svg = self._kept[link] = self._kept.pop(link)
        while len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]
        return svg


def _draw(link: str) -> bytes:
    """Dark on light whatever is behind it, as large as it is shown; 15 % of it may be hidden."""
    code = zxingcpp.create_barcode(link, zxingcpp.BarcodeFormat.QRCode, ec_level="M")
    [(size, modules)] = _FRAME.findall(code.to_svg(add_quiet_zones=True))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}">'
    return f"{head}{modules.strip()}</svg>".encode()
