//! The documented events: their members, and the fields that these become.

use super::wire::{EVENT_DATE, EVENT_TYPE};
use crate::{
    entity::EntityKind,
    transfer::{Action, Direction, EntityProcessor, Payload, Scope, child, own},
};

pub(super) const fn partial(entity: EntityKind, pull: bool, scopes: &'static [Scope]) -> EntityProcessor {
    EntityProcessor {
        entity,
        direction: Direction::Import,
        payload: Payload::Partial,
        pull,
        polling: None,
        scopes,
        requires: &[],
        followed_by: &[],
    }
}

/// The entity processors. Legacy events have their names here, even if deliveries have numbers.
pub(super) static PROCESSORS: &[EntityProcessor] = &[
    partial(
        EntityKind::Order,
        true,
        &[
            own("CreateOrderEvent", Action::Created),
            own("FinalizeOrderEvent", Action::Updated),
            own("OrderEvent", Action::Updated),
            child("CreateOrderPaymentEvent", "payment"),
            child("UpdateOrderPackageStatusEvent", "package"),
        ],
    ),
    partial(
        EntityKind::Customer,
        true,
        &[
            own("EnrollmentEvent", Action::Created),
            own("CreateAssociateEvent", Action::Created),
            own("UpdateAssociateEvent", Action::Updated),
        ],
    ),
    partial(
        EntityKind::Subscription,
        false,
        &[own("CreateSubscriptionEvent", Action::Created), own("UpdateSubscriptionEvent", Action::Updated)],
    ),
    partial(
        EntityKind::Product,
        false,
        &[own("CreateInventoryItemEvent", Action::Created), own("DeleteInventoryItemEvent", Action::Deleted)],
    ),
];

/// The way in which a member is read.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Id,
    Time,
    /// An amount, with the member that holds its currency: neither means anything without the other.
    Money(&'static str),
    Currency,
    /// Any value; kept in `extra`, under its own name.
    Extra,
    /// A time, kept in the same way.
    ExtraTime,
    /// The kind of an order, which is a name or a number, kept in the same way.
    OrderType,
}

impl Kind {
    /// Returns whether the entity is still right without the member: not without its owner, and not without its price.
    pub(super) const fn is_droppable(self) -> bool {
        matches!(self, Self::Text | Self::Time)
    }

    /// Returns whether the member has no canonical field.
    pub(super) const fn is_extra(self) -> bool {
        matches!(self, Self::Extra | Self::ExtraTime | Self::OrderType)
    }
}

/// A member of an event, and the field that it becomes, with dots between the levels.
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) field: &'static str,
    pub(super) kind: Kind,
}

pub(super) const fn member(name: &'static str, field: &'static str, kind: Kind) -> Member {
    Member { name, field, kind }
}

pub(super) const fn extra(name: &'static str) -> Member {
    Member { name, field: "", kind: Kind::Extra }
}

/// Members that always travel together.
pub(super) struct Group {
    pub(super) facet: &'static str,
    pub(super) members: &'static [Member],
}

/// The entity and the members of an event.
pub(super) struct Event {
    pub(super) scope: &'static str,
    /// The member that is the entity's id.
    pub(super) id: &'static str,
    /// The list that contains a child event's child, and the member with the child's id.
    pub(super) child: Option<(&'static str, &'static str)>,
    pub(super) groups: &'static [Group],
}

pub(super) const CORE: Group = Group {
    facet: "core",
    members: &[
        member("CustomerId", "customer", Kind::Id),
        member("OrderDateUtc", "created_at", Kind::Time),
        member("OrderStatus", "status", Kind::Text),
        member("OrderType", "", Kind::OrderType),
    ],
};

pub(super) const TOTAL: Group = Group {
    facet: "total",
    members: &[
        member("OrderTotal", "totals.total", Kind::Money("OrderCurrency")),
        member("OrderCurrency", "currency", Kind::Currency),
    ],
};

pub(super) const ORDER: &[Group] = &[CORE];

/// The members that the API may give of an order.
pub(super) const ORDER_DETAIL: &[Group] = &[CORE, TOTAL];

/// The members of legacy orders. A distributor is an associate, by the same number.
pub(super) const LEGACY_ORDER: &[Group] = &[
    Group {
        facet: "core",
        members: &[
            member("DistributorId", "customer", Kind::Id),
            member("OrderDateUtc", "created_at", Kind::Time),
            member("OrderStatus", "status", Kind::Text),
            member("OrderType", "", Kind::OrderType),
        ],
    },
    TOTAL,
    Group { facet: "country", members: &[extra("OrderCountry")] },
];

pub(super) const PAYMENT: &[Group] = &[Group {
    facet: "payment",
    members: &[
        member("PaymentStatus", "status", Kind::Text),
        member("PaymentType", "kind", Kind::Text),
        member("Amount", "amount", Kind::Money("CurrencyCode")),
        member("CurrencyCode", "currency", Kind::Currency),
    ],
}];

pub(super) const PACKAGE: &[Group] = &[Group {
    facet: "package",
    members: &[
        member("PackageStatus", "status", Kind::Text),
        member("Carrier", "carrier", Kind::Text),
        member("ShipMethodId", "method", Kind::Text),
        member("TrackingNumber", "tracking_number", Kind::Text),
        member("ShippedDateUtc", "shipped_at", Kind::Time),
        extra("WarehouseId"),
        member("ShipByDateUtc", "", Kind::ExtraTime),
    ],
}];

pub(super) const ASSOCIATE: &[Group] = &[Group {
    facet: "core",
    members: &[
        member("FirstName", "first_name", Kind::Text),
        member("LastName", "last_name", Kind::Text),
        member("EmailAddress", "email", Kind::Text),
        member("CompanyName", "billing.company", Kind::Text),
        extra("Username"),
        extra("AssociateStatus"),
        extra("AssociateType"),
        extra("WebAliases"),
        extra("BackOfficeId"),
        extra("ExternalReferenceId"),
    ],
}];

pub(super) const ENROLLMENT: &[Group] = &[Group {
    facet: "enrollment",
    members: &[
        member("EnrollmentDateUtc", "created_at", Kind::Time),
        extra("DistributorType"),
        extra("DistributorStatus"),
        extra("DistributorCountry"),
        extra("SponsorId"),
    ],
}];

pub(super) const SUBSCRIPTION: &[Group] = &[Group {
    facet: "core",
    members: &[
        member("AssociateId", "customer", Kind::Id),
        member("SubscriptionName", "name", Kind::Text),
        member("ExpirationDateUtc", "expires_at", Kind::Time),
        extra("IsVoid"),
    ],
}];

pub(super) const ITEM: &[Group] =
    &[Group { facet: "core", members: &[member("Sku", "sku", Kind::Text), extra("TrackStock"), extra("HasOptions")] }];

pub(super) const fn event(scope: &'static str, id: &'static str, groups: &'static [Group]) -> Event {
    Event { scope, id, child: None, groups }
}

pub(super) static EVENTS: &[Event] = &[
    event("CreateOrderEvent", "OrderNumber", ORDER),
    event("FinalizeOrderEvent", "OrderNumber", ORDER),
    event("OrderEvent", "OrderId", LEGACY_ORDER),
    Event { child: Some(("payments", "OrderPaymentId")), ..event("CreateOrderPaymentEvent", "OrderNumber", PAYMENT) },
    Event { child: Some(("packages", "PackageId")), ..event("UpdateOrderPackageStatusEvent", "OrderNumber", PACKAGE) },
    event("EnrollmentEvent", "DistributorId", ENROLLMENT),
    event("CreateAssociateEvent", "AssociateId", ASSOCIATE),
    event("UpdateAssociateEvent", "AssociateId", ASSOCIATE),
    event("CreateSubscriptionEvent", "SubscriptionId", SUBSCRIPTION),
    event("UpdateSubscriptionEvent", "SubscriptionId", SUBSCRIPTION),
    event("CreateInventoryItemEvent", "ItemId", ITEM),
    event("DeleteInventoryItemEvent", "ItemId", ITEM),
];

/// The members of every event: its type and its time. `EventCategory` is not always present, and sometimes wrong.
pub(super) const HEAD: &[&str] = &[EVENT_TYPE, EVENT_DATE, "EventCategory"];
