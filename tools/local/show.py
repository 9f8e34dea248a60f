"""The tables of `make run` on the terminal: deliveries, webhooks and entities."""

import sys

COLOURS = {"applied": 32, "unchanged": 90, "superseded": 33, "ignored": 90, "quarantined": 31, "answered": 36, "deleted": 31}


def ink(text, code):
    """Returns the text in a colour if the output is a terminal."""
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() else text


def bold(text):
    return ink(text, 1)


def faint(text):
    return ink(text, 2)


def table(title, columns, rows):
    widths = [max(len(str(cell)) for cell in column) for column in zip(columns, *rows)]
    print(f"\n{bold(title)}\n")
    print("  " + faint("  ".join(name.ljust(width) for name, width in zip(columns, widths))))
    for row in rows:
        cells = []
        for cell, width in zip(row, widths):
            text = str(cell).ljust(width)
            colour = COLOURS.get(str(cell).split(":")[0])
            cells.append(ink(text, colour) if colour else text)
        print("  " + "  ".join(cells).rstrip())


def summary(item):
    """Returns a readable line about an entity as it is in the table."""
    fields, kind = item.get("fields", {}), item["sk"].split("#")[0]
    if not fields:
        return "never seen; only its delete was" if item["deleted"] else "nothing is known of it"
    person = f"{fields.get('first_name', '')} {fields.get('last_name', '')}".strip()
    if kind == "customer":
        parts = [f"{person} <{fields.get('email', '')}>"]
    elif kind == "product":
        named = zip(["", "", "price ", "stock "], [fields.get("name"), fields.get("sku"), fields.get("price"), fields.get("stock", {}).get("quantity")])
        parts = [f"{name}{part}" for name, part in named if part is not None]
    elif kind in {"order", "cart"}:
        total = fields.get("totals", {}).get("total") or fields.get("total")
        payments = ", ".join(f"paid {p.get('amount')} {p.get('currency')}" for p in fields.get("payments", {}).values())
        lines = ", ".join(f"{line['quantity']} x {line.get('name')}" for line in fields.get("lines", []))
        parts = [fields.get("status"), f"{total} {fields.get('currency')}" if total else None, lines, payments]
    elif kind in {"request", "subscription"}:
        quantities = ", ".join(f"{item.get('quantity')} x {item.get('sku')}" for item in fields.get("items", []))
        parts = [fields.get("kind"), fields.get("status"), fields.get("name"), quantities]
    else:
        parts = [fields.get("event") or fields.get("code") or fields.get("name")]
    return ", ".join(part for part in parts if part) or "known by " + ", ".join(sorted(fields))


def show_all(recorded, simulated, shown, known):
    """Prints the webhooks, the deliveries of each platform, and every entity."""
    show_webhooks(shown)
    rows = [[d["name"][:3], d["scope"], d["id"], d["status"], d["outcome"]] for d in recorded]
    table("What the recorded store sent", ["#", "topic", "id", "answer", "outcome"], rows)
    for (platform, connection), items in known.items():
        counted = {}
        for delivery in (d for d in simulated if (d["platform"], d["connection"]) == (platform, connection)):
            key = (delivery["scope"], delivery["status"], delivery["outcome"])
            counted[key] = counted.get(key, 0) + 1
        if counted:
            rows = [[count, *key] for key, count in sorted(counted.items())]
            table(f"What the simulated {platform} sent", ["times", "topic", "answer", "outcome"], rows)
        rows = [
            [i["sk"].replace("#", " ", 1)[:40], "deleted" if i["deleted"] else "there", summary(i)[:80], i["changed_at"][:23]]
            for i in items
        ]
        table(f"What is known of {platform} {connection} now", ["entity", "state", "last known as", "since"], rows)


def show_webhooks(shown):
    """Prints the webhooks at each platform, with equal ones in one row."""
    rows = []
    for one in shown:
        alike = {}
        for webhook in one["subscriptions"]:
            key = (webhook["status"], webhook["verdict"] or "", "seen" if webhook.get("last_delivery") else "not yet")
            alike.setdefault(key, []).append(webhook["scope"])
        for (status, verdict, seen), scopes in sorted(alike.items()):
            shortened = ", ".join(sorted(scopes))
            shortened = shortened if len(shortened) <= 90 else shortened[:87] + "..."
            rows.append([one["platform"], one["connection"], len(scopes), status, verdict, seen, shortened])
    columns = ["platform", "connection", "webhooks", "at the platform", "health", "deliveries", "topics"]
    table("The webhooks", columns, rows)
