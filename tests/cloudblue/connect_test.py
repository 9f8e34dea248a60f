"""Tests of the product's calls to CloudBlue Connect, and of the simulator that answers them, against the vendor's
publications: every query against the library that the platform filters with (oracle.py), and the simulator against the
official client.

CONNECT is the simulator's binary (tests/src/bin/connect.rs)."""

import json
import os
import subprocess
import unittest

import requests
from connect.client import ClientError, ConnectClient, R

import oracle

LISTS = list(oracle.FILTERS)


class Connect(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.process = subprocess.Popen([os.environ["CONNECT"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        cls.addClassCleanup(cls.end)
        told = json.loads(cls.process.stdout.readline())
        cls.url, cls.key, cls.told = told["url"], told["key"], told

    @classmethod
    def end(cls):
        cls.process.stdin.close()
        cls.process.stdout.close()
        cls.process.wait(timeout=30)

    def ask(self, query):
        """Returns the answer of the simulator in the form of `oracle.List.get`."""
        answer = requests.get(f"{self.url}{query}", headers={"Authorization": self.key}, timeout=30)
        body = answer.json()
        ids = [entry["id"] for entry in body] if answer.status_code == 200 else body["error_code"]
        return answer.status_code, answer.headers.get("Content-Range"), ids

    def entries(self, path):
        """Returns all entries of a list, fetched page by page."""
        found = []
        while True:
            query = f"{self.url}{path}?limit=1000&offset={len(found)}"
            page = requests.get(query, headers={"Authorization": self.key}, timeout=30).json()
            found += page
            if len(page) < 1000:
                return found


class Queries(Connect):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.all = {path: cls.entries(cls, path) for path in LISTS}
        cls.lists = {path: oracle.List(path, cls.all[path]) for path in LISTS}

    def compare(self, query):
        path, _, terms = query.partition("?")
        theirs, ours = self.lists[path].get(terms), self.ask(query)
        self.assertEqual(theirs, ours, query)
        return theirs

    def test_there_is_enough_to_page_through(self):
        for path, count in self.told["counts"].items():
            self.assertEqual(len(self.all[path]), count, path)
            self.assertGreater(count, 100, path)

    def test_each_query_of_the_product_is_taken_and_answered_alike(self):
        asked = self.told["asked"]
        self.assertEqual({query.partition("?")[0] for query in asked}, set(LISTS))
        pages = {path: 0 for path in LISTS}
        for query in asked:
            status, _, ids = self.compare(query)
            self.assertEqual(status, 200, query)
            pages[query.partition("?")[0]] += len(ids) == 100
        self.assertTrue(all(pages.values()), pages)

    def test_a_walk_passes_nothing_over(self):
        product = {"requests": "asset.product.id", "assets": "product.id"}
        walked = set()
        for walk in self.told["walks"]:
            for name, found in walk["found"].items():
                path, kind = name.rsplit("/", 1)
                terms = ["in(status,(pending))"] if kind == "pending" else []
                if walk["products"]:
                    own = product.get(path, "configuration.product.id")
                    terms.append(f"in({own},({','.join(walk['products'])}))")
                if kind == "changed" and walk["since"]:
                    # A later time than the moment itself would do for assets, but the assets of that moment have to
                    # come.
                    since = walk["since"].replace("Z", "+00:00")
                    terms.append(f"updated=gt={since}" if path == "assets" else f"ge(updated,{since})")
                path = f"/{path.replace('tier-config-requests', 'tier/config-requests')}"
                whole, offset = set(), 0
                while True:
                    status, _, ids = self.lists[path].get("&".join([*terms, f"limit=1000&offset={offset}"]))
                    self.assertEqual(status, 200, terms)
                    whole |= set(ids)
                    offset += 1000
                    if len(ids) < 1000:
                        break
                self.assertEqual(whole - set(found), set(), (name, terms))
                walked.add((name, len(found) > 100))
        for name in ["requests/pending", "requests/changed", "assets/changed", "tier-config-requests/changed"]:
            self.assertIn((name, True), walked)

    def test_what_is_of_the_very_moment_is_found(self):
        times = [entry["events"]["updated"]["at"] for entry in self.all["/assets"]]
        moment = max(set(times), key=times.count)
        self.assertGreater(times.count(moment), 100, "more than a page")
        of_moment = {entry["id"] for entry in self.all["/assets"] if entry["events"]["updated"]["at"] == moment}
        begun = [walk for walk in self.told["walks"] if "assets/changed" in walk["found"] and walk["since"] and not walk["products"]]
        first = min(begun, key=lambda walk: walk["since"])
        self.assertEqual(of_moment - set(first["found"]["assets/changed"]), set())

    def test_both_take_and_refuse_the_same(self):
        assets, requests_, tiers, hooks = "/assets?", "/requests?", "/tier/config-requests?", "/notifications/webhooks?"
        taken = [
            assets,
            assets + "gt(updated,2027-01-15T08:00:40Z)&ordering(-updated)&limit=7",
            assets + "gt(created,2027-01-15T08%3A00%3A40%2B00%3A00)&lt(updated,2027-01-15T08:02:00.5+00:00)",
            assets + "ordering(-created)&limit=3&offset=2",
            assets + "ordering(status,-updated)&limit=1000",
            assets + "in(status,(active,processing))&limit=5",
            assets + "out(status,(active,processing))",
            assets + "and(eq(status,processing),eq(product.id,PRD-000-000-001))&limit=9&offset=9",
            assets + "(eq(status,active)|eq(status,terminated))",
            assets + "or(eq(status,active),eq(status,terminated))",
            assets + "not(eq(status,processing))",
            assets + "status=processing&limit=4",
            assets + "like(external_id,ext-1*)&limit=1000",
            assets + "ne(external_id,ext-1)&limit=0",
            assets + "eq(external_id,null())",
            assets + "limit=0",
            assets + "limit=0&offset=50",
            assets + "limit=10&offset=100000",
            assets + "eq(id,AS-nowhere)",
            assets + "eq(id,%22AS-0000-0000-0001%22)",
            assets + "ge(events.updated.at,2027-01-10T00:30:00Z)&limit=2",
            assets + "nothing=5&limit=2",
            assets + "select(-items)&limit=2",
            requests_ + "ge(created,2027-01-15T08:00:40Z)&le(updated,2027-01-15T08:02:00Z)&limit=1000",
            requests_ + "updated=ge=2027-01-15T08:00:40Z&ordering(created)&limit=20",
            requests_ + "in(type,(change,cancel))&ordering(-updated)&limit=1000",
            requests_ + "asset.product.id=PRD-000-000-002,status=pending",
            requests_ + "in(asset.connection.type,(test,production))&limit=1000",
            tiers + "ordering(-id)&limit=5",
            tiers + "null=5&status=pending",
            hooks + "active=true&limit=10",
            hooks + "eq(product.id,PRD-000-000-001)&type=event&limit=10&offset=60",
            hooks + "ordering(-type)&limit=1",
            hooks + "like(label,*rder*)&limit=3",
        ]
        for query in taken:
            self.assertEqual(self.compare(query)[0], 200, query)
        refused = [
            assets + "ge(events.updated.at,2027-01-10T00%3A30%3A00Z)&ordering(events.updated.at)&limit=100&offset=0",
            assets + "ordering(events.updated.at)",
            assets + "ge(updated,2027-01-10T00:30:00Z)",
            assets + "le(created,2027-01-10T00:30:00Z)",
            assets + "updated=2027-01-10T00:30:00Z",
            assets + "in(updated,(2027-01-10T00:30:00Z))",
            assets + "gt(updated,yesterday)",
            assets + "status=unheard",
            assets + "ordering(external_id)",
            assets + "ordering(updated)&ordering(created)",
            assets + "limit=1&limit=2",
            assets + "gt(limit,5)",
            assets + "eq(status,active",
            assets + "eq(status)",
            assets + "in(status,active)",
            assets + "unheard(status,active)",
            assets + "&limit=5",
            requests_ + "ordering(id)",
            requests_ + "like(asset.connection.type,t*)",
            requests_ + "eq(asset.connection.type,preview)",
            tiers + "ne(status,pending)",
            tiers + "like(type,set*)",
            hooks + "active=maybe",
            hooks + "ordering(label)",
            hooks + "in(active,(true))",
        ]
        for query in refused:
            self.assertEqual(self.compare(query), (400, None, "VAL_001"), query)

    def test_an_empty_list_says_so(self):
        self.assertEqual(self.compare("/assets?eq(id,AS-nowhere)"), (200, "items 0-0/0", []))
        self.assertEqual(self.compare("/assets?limit=0")[1], f"items 0-0/{self.told['counts']['/assets']}")


class OfficialClient(Connect):
    """Tests of the product's calls, made by the vendor's own client."""

    def setUp(self):
        self.client = ConnectClient(self.key, endpoint=self.url, use_specs=False, max_retries=0)

    def refused(self, status, call, *arguments, **named):
        with self.assertRaises(ClientError) as raised:
            call(*arguments, **named)
        self.assertEqual(raised.exception.status_code, status)
        return raised.exception

    def pending(self, collection):
        found = collection.filter(status="pending").first()
        self.assertEqual(found["status"], "pending")
        return found["id"]

    def test_lists_are_paged_by_content_range(self):
        collections = {
            "/requests": self.client.requests,
            "/assets": self.client.assets,
            "/tier/config-requests": self.client("tier").config_requests,
            "/notifications/webhooks": self.client("notifications").webhooks,
        }
        for path, collection in collections.items():
            whole = [entry["id"] for entry in self.entries(path)]
            for size in [37, 100, 1000]:
                self.assertEqual([entry["id"] for entry in collection.all().limit(size)], whole, (path, size))
            self.assertEqual(collection.all().count(), len(whole), path)
            self.assertEqual([entry["id"] for entry in collection.all()[5:25]], whole[5:25], path)

    def test_filters_and_orders(self):
        collection = self.client.requests
        query = R().status.in_(["pending", "inquiring"]) & R().asset.product.id.eq("PRD-000-000-001")
        found = list(collection.filter(query).order_by("-created"))
        own = {entry["id"] for entry in self.entries("/requests") if entry["status"] in ("pending", "inquiring")
               and entry["asset"]["product"]["id"] == "PRD-000-000-001"}
        self.assertGreater(len(own), 20)
        self.assertEqual({entry["id"] for entry in found}, own)
        times = [entry["created"] for entry in found]
        self.assertEqual(times, sorted(times, reverse=True))
        none = collection.filter(id="PR-nowhere")
        self.assertEqual((none.count(), none.first(), list(none)), (0, None, []))
        latest = self.client.assets.filter(R().updated.gt("2027-01-15T08:00:40Z")).order_by("updated").first()
        self.assertGreater(latest["events"]["updated"]["at"], "2027-01-15T08:00:40")
        wrong = self.refused(400, list, self.client.assets.filter(R().updated.ge("2027-01-15T08:00:40Z")))
        self.assertEqual(wrong.error_code, "VAL_001")
        wrong = self.refused(400, list, self.client.assets.all().order_by("events.updated.at"))
        self.assertEqual(wrong.errors, ["Bad ordering filter: events.updated.at."])

    def test_webhooks_are_made_changed_and_removed(self):
        hooks = self.client("notifications").webhooks
        before = hooks.all().count()
        body = {
            "type": "event", "object_class": "fulfillment_request", "label": "by the client", "product_id": "PRD-000-000-001",
            "description": "made by a test", "external_url": "https://hooks.example.com/a", "jwt_secret": "s" * 64, "active": True,
            "http_method": "POST", "data": {}, "headers": {"Content-Type": "application/json"},
        }
        made = hooks.create(payload=body)
        self.assertEqual(self.client.response.status_code, 201)
        self.assertRegex(made["id"], r"^WH-\d{3}-\d{3}-\d{3}$")
        self.assertEqual((made["product"]["id"], made["jwt_secret"]), ("PRD-000-000-001", "s" * 64))
        self.assertEqual(hooks[made["id"]].get(), made)
        self.assertEqual(hooks.filter(label="by the client").first()["id"], made["id"])
        self.assertEqual(hooks.all().count(), before + 1)
        changed = hooks[made["id"]].update(payload=body | {"active": False, "external_url": "https://hooks.example.com/b"})
        self.assertEqual((changed["active"], changed["external_url"]), (False, "https://hooks.example.com/b"))
        self.assertEqual(hooks[made["id"]].get()["active"], False)
        hooks[made["id"]]("trigger").post()
        self.assertEqual(self.client.response.status_code, 200)
        for name in ["label", "external_url", "jwt_secret", "product_id", "http_method"]:
            wrong = self.refused(400, hooks.create, payload={key: value for key, value in body.items() if key != name})
            self.assertEqual(wrong.error_code, "VAL_001")
            self.assertIn(name, wrong.errors[0])
        self.refused(400, hooks.create, payload=body | {"product_id": "PRD-nowhere"})
        self.assertIsNone(hooks[made["id"]].delete())
        self.assertEqual(self.client.response.status_code, 204)
        gone = self.refused(404, hooks[made["id"]].get)
        self.assertTrue(gone.error_code and gone.errors)
        self.refused(404, hooks[made["id"]].delete)

    def test_requests_are_answered(self):
        requests_ = self.client.requests
        request = requests_[self.pending(requests_)]
        wrong = self.refused(400, request("approve").post, payload={})
        self.assertEqual(wrong.error_code, "VAL_001")
        shown = request.get()
        # The required parameter is filled in.
        params = [{"id": "domain", "value": "a.example.com", "value_error": "", "structured_value": {}}]
        changed = request.update(payload={"asset": {"params": params}})
        self.assertEqual(next(param for param in changed["asset"]["params"] if param["id"] == "domain")["value"], "a.example.com")
        approved = request("approve").post(payload={"template_id": "TL-000-000-001"})
        self.assertEqual((approved["status"], approved["id"]), ("approved", shown["id"]))
        asset = self.client.assets[shown["asset"]["id"]].get()
        self.assertEqual(asset["status"], {"cancel": "terminated", "suspend": "suspended"}.get(shown["type"], "active"))
        again = self.refused(400, request("approve").post, payload={"template_id": "TL-000-000-001"})
        self.assertEqual(again.error_code, "REQ_003")

        request = requests_[self.pending(requests_)]
        asked = request("inquire").post(payload={"template_id": "TL-000-000-002"})
        self.assertEqual(asked["status"], "inquiring")
        self.assertIn("code=", asked["params_form_url"], "whoever has it can fill in the parameters")
        self.assertEqual(asked["events"]["inquired"]["by"]["id"], "SU-000-000-001")
        pended = request("pend").post()
        self.assertEqual(pended["status"], "pending")
        self.assertNotIn("params_form_url", pended)
        self.refused(400, request("pend").post)
        self.refused(400, request("fail").post, payload={"reason": ""})
        failed = request("fail").post(payload={"reason": "no"})
        self.assertEqual((failed["status"], failed["reason"]), ("failed", "no"))
        gone = self.refused(404, requests_["PR-0000-0000-0000-001"].get)
        self.assertTrue(gone.error_code and gone.errors)

    def test_tier_configuration_requests_are_answered(self):
        tiers = self.client("tier").config_requests
        request = tiers[self.pending(tiers)]
        self.refused(400, request("approve").post, payload={})
        params = [{"id": "partner_id", "value": "p-2", "value_error": ""}]
        self.assertEqual(request.update(payload={"params": params})["params"][0]["value"], "p-2")
        approved = request("approve").post(payload={"template": {"id": "TL-000-000-001"}})
        self.assertEqual(approved["template"]["id"], "TL-000-000-001")
        self.assertEqual(request.get()["status"], "approved")
        request = tiers[self.pending(tiers)]
        request("inquire").post()
        self.assertEqual((self.client.response.status_code, request.get()["status"]), (204, "inquiring"))
        request("pend").post()
        self.assertEqual(request.get()["status"], "pending")
        request("fail").post(payload={"reason": "no"})
        self.assertEqual(request.get()["reason"], "no")

    def test_a_structured_parameter_has_all_its_members(self):
        params = [param for asset in self.client.assets.all() for param in asset["params"]]
        phones = [param["structured_value"] for param in params if param["type"] == "phone"]
        self.assertTrue(phones and all(set(phone) == {"country_code", "area_code", "phone_number", "extension"} for phone in phones))
        self.assertIn("", {phone["phone_number"] for phone in phones})

    def test_a_key_that_is_none_is_refused(self):
        other = ConnectClient("ApiKey SU-1:x", endpoint=self.url, use_specs=False, max_retries=0)
        error = self.refused(401, other.requests.all().count)
        self.assertTrue(error.error_code)


if __name__ == "__main__":
    unittest.main()
