"""CloudBlue Connect's lists as the platform answers them: filtered by its own library, django-rql, with the documented
filters (filters.json), over a database in memory."""

import datetime
import json
import pathlib

import django
from django.conf import settings

FILTERS = json.loads(pathlib.Path(__file__).with_name("filters.json").read_text())

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "EXCEPTION_HANDLER": "oracle.refused",
        "UNAUTHENTICATED_USER": None,
    },
    USE_TZ=True,
)
django.setup()

from dj_rql.drf.backend import RQLFilterBackend  # noqa: E402
from dj_rql.drf.paginations import RQLContentRangeLimitOffsetPagination  # noqa: E402
from dj_rql.filter_cls import RQLFilterClass  # noqa: E402
from django.db import connection, models  # noqa: E402
from py_rql.exceptions import RQLFilterError  # noqa: E402
from rest_framework.generics import ListAPIView  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.test import APIRequestFactory  # noqa: E402
from rest_framework.views import exception_handler  # noqa: E402


def refused(error, context):
    if isinstance(error, RQLFilterError):
        details = error.details if isinstance(error.details, dict) else {}
        return Response({"error_code": "VAL_001", "errors": [f"{error} {details}"]}, 400)
    return exception_handler(error, context)


class Pagination(RQLContentRangeLimitOffsetPagination):
    default_limit = 100
    max_limit = 1000


def column(filter_):
    return filter_["name"].replace(".", "_")


def field(filter_):
    if filter_["kind"] == "time":
        return models.DateTimeField(null=True)
    if filter_["kind"] == "flag":
        return models.BooleanField(null=True)
    choices = [(choice, choice) for choice in filter_.get("choices", [])] or None
    return models.CharField(max_length=200, null=True, blank=True, choices=choices)


class List:
    """One of the lists, with its entries."""

    def __init__(self, path, entries):
        filters = FILTERS[path]
        name = "".join(part.title() for part in path.replace("-", "/").split("/"))
        columns = {column(filter_): field(filter_) for filter_ in filters}
        # The platform's own ids are texts, which are one of the columns of the table.
        columns |= {"number": models.AutoField(primary_key=True), "__module__": __name__}
        model = type(name, (models.Model,), columns | {"Meta": type("Meta", (), {"app_label": "connect"})})
        with connection.schema_editor() as editor:
            editor.create_model(model)
        for entry in entries:
            model.objects.create(**{column(filter_): value(filter_, entry) for filter_ in filters})
        own = [
            {
                "filter": filter_["name"],
                "source": column(filter_),
                "lookups": set(filter_["lookups"]),
                "ordering": filter_["ordering"],
            }
            for filter_ in filters
        ]
        filtered = type(f"{name}Filter", (RQLFilterClass,), {"MODEL": model, "FILTERS": own, "SELECT": False})
        members = {
            "queryset": model.objects.all(),
            "filter_backends": [RQLFilterBackend],
            "pagination_class": Pagination,
            "rql_filter_class": filtered,
            "list": lambda self, request: self.get_paginated_response(
                [entry.id for entry in self.paginate_queryset(self.filter_queryset(self.get_queryset()))]
            ),
        }
        self.view = type(f"{name}View", (ListAPIView,), members).as_view()

    def get(self, query):
        """Returns the status, `Content-Range`, and the ids on the page, or the error code."""
        request = APIRequestFactory().get("/", QUERY_STRING=query)
        answer = self.view(request)
        answer.render()
        ids = answer.data if answer.status_code == 200 else answer.data["error_code"]
        return answer.status_code, answer.headers.get("Content-Range"), ids


def value(filter_, entry):
    for name in filter_["at"].split("."):
        entry = entry.get(name) if isinstance(entry, dict) else None
    if filter_["kind"] == "time" and entry:
        return datetime.datetime.fromisoformat(entry)
    return entry
