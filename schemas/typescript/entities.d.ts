// The canonical entities, as `fields` of an item of the table `Entities` holds them. Made from the code by `make pages`.
// An empty member is absent. Amounts are decimal numbers as text; times are RFC 3339 in UTC.

/** A buyer with an account at the store. */
export interface Customer {
  /** The address for invoices. */
  billing?: {
    /** The city. */
    city?: string;
    /** The company. */
    company?: string;
    /** The country, ISO 3166-1 alpha-2. */
    country?: string;
    /** The e-mail address. */
    email?: string;
    /** The first name. */
    first_name?: string;
    /** The last name. */
    last_name?: string;
    /** The street and number. */
    line1?: string;
    /** The rest of the street address. */
    line2?: string;
    /** The phone number, as it was entered. */
    phone?: string;
    /** The postal code. */
    postcode?: string;
    /** The subdivision: an ISO 3166-2 code or free text. */
    region?: string;
  };
  /** The time at which the account was made. */
  created_at?: string;
  /** The e-mail address. */
  email?: string;
  /** The first name. */
  first_name?: string;
  /** The id at the platform. */
  id: string;
  /** The last name. */
  last_name?: string;
  /** The address for goods. */
  shipping?: {
    /** The city. */
    city?: string;
    /** The company. */
    company?: string;
    /** The country, ISO 3166-1 alpha-2. */
    country?: string;
    /** The e-mail address. */
    email?: string;
    /** The first name. */
    first_name?: string;
    /** The last name. */
    last_name?: string;
    /** The street and number. */
    line1?: string;
    /** The rest of the street address. */
    line2?: string;
    /** The phone number, as it was entered. */
    phone?: string;
    /** The postal code. */
    postcode?: string;
    /** The subdivision: an ISO 3166-2 code or free text. */
    region?: string;
  };
  /** The time of the source's last change. */
  updated_at?: string;
}

/** Something that is sold. */
export interface Product {
  /** The GTIN, UPC, EAN or ISBN. */
  barcode?: string;
  /** The product's places in the catalogue. */
  categories?: Array<{
    /** The id at the platform. */
    id?: string;
    /** The name. */
    name?: string;
  }>;
  /** The choices that a product offers, or those that a variation has made. */
  choices?: Array<{
    /** The attribute: `Size`. */
    name?: string;
    /** The values: all that can be chosen, or the chosen one. */
    values?: Array<string>;
  }>;
  /** The time at which it was made. */
  created_at?: string;
  /** The currency of the prices, ISO 4217; absent where the platform prices products in the store's one currency. */
  currency?: string;
  /** The description, HTML where the platform has HTML. */
  description?: string;
  /** The id at the platform. */
  id: string;
  /** The addresses of its pictures, the main one first. */
  images?: Array<string>;
  /** The kind: `simple`, `variable`, `variation`, or another word of the platform's. */
  kind?: string;
  /** The name. */
  name?: string;
  /** The product that this is a variation of. */
  parent?: string;
  /** The current price. */
  price?: string;
  /** The price without a sale. */
  regular_price?: string;
  /** The price in a sale. */
  sale_price?: string;
  /** The merchant's own number. */
  sku?: string;
  /** The platform's publication status. */
  status?: string;
  /** The remaining stock. */
  stock?: {
    /** The quantity, where the store counts. */
    quantity?: string;
    /** The platform's word for it: `instock`, `outofstock`, `onbackorder`. */
    status?: string;
  };
  /** The time of the source's last change. */
  updated_at?: string;
  /** The product's page in the store. */
  url?: string;
  /** The ids of its variations. */
  variations?: Array<string>;
}

/** A sale. All its amounts are in its `currency`. */
export interface Order {
  /** The address for the invoice. */
  billing?: {
    /** The city. */
    city?: string;
    /** The company. */
    company?: string;
    /** The country, ISO 3166-1 alpha-2. */
    country?: string;
    /** The e-mail address. */
    email?: string;
    /** The first name. */
    first_name?: string;
    /** The last name. */
    last_name?: string;
    /** The street and number. */
    line1?: string;
    /** The rest of the street address. */
    line2?: string;
    /** The phone number, as it was entered. */
    phone?: string;
    /** The postal code. */
    postcode?: string;
    /** The subdivision: an ISO 3166-2 code or free text. */
    region?: string;
  };
  /** The time at which it was completed. */
  completed_at?: string;
  /** The coupons that were used. */
  coupons?: Array<{
    /** The code that was entered. */
    code?: string;
    /** The discount, without tax. BigCommerce's is with tax where `prices_include_tax` is set. */
    discount?: string;
    /** The id of the line at the platform. */
    id?: string;
    /** Tax on the discount. */
    tax?: string;
  }>;
  /** The time at which it was placed. */
  created_at?: string;
  /** The currency of all amounts, ISO 4217. */
  currency?: string;
  /** The buyer; absent for guests. */
  customer?: string;
  /** The other charges. */
  fees?: Array<{
    /** The id at the platform. */
    id?: string;
    /** The name. */
    name?: string;
    /** Tax on the total. */
    tax?: string;
    /** The charge, without tax. */
    total?: string;
  }>;
  /** The id at the platform. */
  id: string;
  /** The lines, one for each thing that was bought. */
  lines?: Array<{
    /** The id at the platform. */
    id?: string;
    /** The name as sold. */
    name?: string;
    /** The price of one, after discounts; absent where it is no round amount. */
    price?: string;
    /** The product; absent when it is gone from the catalogue. */
    product?: string;
    /** The quantity. */
    quantity?: string;
    /** The merchant's number as sold. */
    sku?: string;
    /** The price of all, before discounts, without tax. */
    subtotal?: string;
    /** Tax on the total. */
    tax?: string;
    /** The price of all, after discounts, without tax. */
    total?: string;
    /** The variation of the product. */
    variation?: string;
  }>;
  /** The customer's note. */
  note?: string;
  /** The number that people use; often, but not always, the id. */
  number?: string;
  /** The packages by their ids, where the platform reports them one by one. */
  packages?: { [id: string]: {
    /** The carrier. */
    carrier?: string;
    /** The shipping method. */
    method?: string;
    /** The time at which it was sent. */
    shipped_at?: string;
    /** The platform's status. */
    status?: string;
    /** The number for tracking it. */
    tracking_number?: string;
  } };
  /** The order that this one belongs to. */
  parent?: string;
  /** The way in which it is paid. */
  payment?: {
    /** The platform's method. */
    method?: string;
    /** The time at which it was paid. */
    paid_at?: string;
    /** The title that the customer saw. */
    title?: string;
    /** The payment provider's id. */
    transaction?: string;
  };
  /** The payments by their ids, where the platform reports them one by one. */
  payments?: { [id: string]: {
    /** The amount. */
    amount?: string;
    /** The time at which it was made. */
    created_at?: string;
    /** The currency of the amount, ISO 4217. */
    currency?: string;
    /** The platform's kind: `Charge`, `refund`, ... */
    kind?: string;
    /** The platform's status. */
    status?: string;
  } };
  /** The refunds. */
  refunds?: Array<{
    /** The id at the platform. */
    id?: string;
    /** The reason. */
    reason?: string;
    /** The amount, tax included, with the platform's sign: negative from WooCommerce, positive from BigCommerce. */
    total?: string;
  }>;
  /** The address for the goods. */
  shipping?: {
    /** The city. */
    city?: string;
    /** The company. */
    company?: string;
    /** The country, ISO 3166-1 alpha-2. */
    country?: string;
    /** The e-mail address. */
    email?: string;
    /** The first name. */
    first_name?: string;
    /** The last name. */
    last_name?: string;
    /** The street and number. */
    line1?: string;
    /** The rest of the street address. */
    line2?: string;
    /** The phone number, as it was entered. */
    phone?: string;
    /** The postal code. */
    postcode?: string;
    /** The subdivision: an ISO 3166-2 code or free text. */
    region?: string;
  };
  /** The ways in which it is sent. */
  shipping_lines?: Array<{
    /** The id at the platform. */
    id?: string;
    /** The platform's method. */
    method?: string;
    /** Tax on the total. */
    tax?: string;
    /** The title that the customer saw. */
    title?: string;
    /** The price, without tax. */
    total?: string;
  }>;
  /** The platform's status. The set is open: plugins add to it. */
  status?: string;
  /** The taxes, by rate. */
  taxes?: Array<{
    /** The rate's code. */
    code?: string;
    /** The id of the line at the platform. */
    id?: string;
    /** The rate's name. */
    label?: string;
    /** The rate, in percent. */
    rate?: string;
    /** Tax on shipping. */
    shipping?: string;
    /** Tax on lines and fees. */
    total?: string;
  }>;
  /** The totals. */
  totals?: {
    /** All discounts together, coupons and others, without tax. */
    discount?: string;
    /** Tax on discounts: the amount by which they lower the taxes. */
    discount_tax?: string;
    /** The part of the total that was paid with gift certificates. */
    gift_certificates?: string;
    /** `true` when the prices of the lines were entered with tax. */
    prices_include_tax?: boolean;
    /** Shipping without tax. */
    shipping?: string;
    /** Tax on shipping. */
    shipping_tax?: string;
    /** The part of the total that was paid with credit given by the store. */
    store_credit?: string;
    /** All taxes. */
    tax?: string;
    /** The sum of lines, shipping and fees, taxes included, before refunds. */
    total?: string;
  };
  /** The time of the source's last change. */
  updated_at?: string;
}

/** A discount that is entered as a code. */
export interface Coupon {
  /** The discount, in percent or as money, as `kind` says. */
  amount?: string;
  /** The code that the customer enters. */
  code?: string;
  /** The time at which it was made. */
  created_at?: string;
  /** The currency of the amounts, ISO 4217; absent where the platform has one currency for the store. */
  currency?: string;
  /** The description. */
  description?: string;
  /** The time from which it cannot be used. */
  expires_at?: string;
  /** The id at the platform. */
  id: string;
  /** The platform's kind of discount: `percent`, `fixed_cart`, `fixed_product`. */
  kind?: string;
  /** The greatest total of an order that it can be used for. */
  maximum?: string;
  /** The least total of an order that it can be used for. */
  minimum?: string;
  /** The products that it is for; empty means all. */
  products?: Array<string>;
  /** The time of the source's last change. */
  updated_at?: string;
  /** The number of times that it can be used. */
  usage_limit?: number;
  /** The number of times that one customer can use it. */
  usage_limit_per_customer?: number;
  /** The number of times that it was used. */
  used?: number;
}

/** A category of products. */
export interface Category {
  /** The description, HTML where the platform has HTML. */
  description?: string;
  /** The id at the platform. */
  id: string;
  /** The name. */
  name?: string;
  /** The category that contains this one. */
  parent?: string;
  /** The time of the source's last change. */
  updated_at?: string;
  /** The category's page in the store. */
  url?: string;
  /** `true` when shoppers see the category. */
  visible?: boolean;
}

/** The price of one variation in one price list, in each of its currencies. */
export interface Price {
  /** The id, `{price list}:{variation}`. */
  id: string;
  /** The price list. */
  list?: string;
  /** The prices, one for each currency, sorted by currency. */
  prices?: Array<{
    /** The currency, ISO 4217. */
    currency?: string;
    /** The price. */
    price?: string;
    /** The price that the manufacturer recommends. */
    retail_price?: string;
    /** The price in a sale. */
    sale_price?: string;
    /** The prices of larger quantities. */
    tiers?: Array<{
      /** The amount. */
      amount?: string;
      /** The least quantity. */
      from?: number;
      /** The meaning of the amount, in the platform's own word. BigCommerce's `price` and `percent` are taken off each piece, and `fixed` is the price of each. */
      kind?: string;
      /** The greatest quantity; absent where there is none. */
      to?: number;
    }>;
  }>;
  /** The variation. */
  variation?: string;
}

/** The things that somebody is about to buy. */
export interface Cart {
  /** The codes that were entered. */
  coupons?: Array<string>;
  /** The time at which it was made. */
  created_at?: string;
  /** The currency of all amounts, ISO 4217. */
  currency?: string;
  /** The customer; absent for guests. */
  customer?: string;
  /** The e-mail address, where one was entered. */
  email?: string;
  /** The id at the platform. */
  id: string;
  /** The lines. */
  lines?: Array<{
    /** The id at the platform. */
    id?: string;
    /** The name as sold. */
    name?: string;
    /** The price of one, after discounts; absent where it is no round amount. */
    price?: string;
    /** The product; absent when it is gone from the catalogue. */
    product?: string;
    /** The quantity. */
    quantity?: string;
    /** The merchant's number as sold. */
    sku?: string;
    /** The price of all, before discounts, without tax. */
    subtotal?: string;
    /** Tax on the total. */
    tax?: string;
    /** The price of all, after discounts, without tax. */
    total?: string;
    /** The variation of the product. */
    variation?: string;
  }>;
  /** The order that it became. */
  order?: string;
  /** The status: `converted` into an order, or `abandoned`; absent for any other. */
  status?: string;
  /** The total. */
  total?: string;
  /** The time of the source's last change. */
  updated_at?: string;
}

/** Something that was bought for as long as it is paid. */
export interface Subscription {
  /** The time of the next bill. */
  billed_at?: string;
  /** The time at which it was made. */
  created_at?: string;
  /** The customer who has it. */
  customer?: string;
  /** The events of its life, with their actors: `created`, `updated`. */
  events?: { [id: string]: {
    /** The time at which it last happened. */
    at?: string;
    /** The actor, where the platform names one. */
    by?: {
      /** The id at the platform. */
      id?: string;
      /** The name. */
      name?: string;
    };
  } };
  /** The time until which it is paid, or at which it has to be renewed. */
  expires_at?: string;
  /** The buyer's or seller's own id for it. */
  external_id?: string;
  /** The id at the platform. */
  id: string;
  /** The items, with their quantities. */
  items?: Array<{
    /** The id at the platform. */
    id?: string;
    /** The name. */
    name?: string;
    /** The quantity before the change. */
    old_quantity?: string;
    /** The quantity, as the platform writes it: a number, or a word such as `unlimited`. */
    quantity?: string;
    /** The vendor's number of it. */
    sku?: string;
  }>;
  /** The name, where it has one. */
  name?: string;
  /** The parameters that it was set up with, by their ids; never passwords. */
  parameters?: { [id: string]: string };
  /** The product that was bought. */
  product?: string;
  /** The platform's status. */
  status?: string;
  /** The time of the source's last change. */
  updated_at?: string;
}

/** A request to make or change a subscription, which waits for an answer. */
export interface Request {
  /** The time at which it was made. */
  created_at?: string;
  /** The customer who asks. */
  customer?: string;
  /** The events of its life, with their actors: `created`, `inquired`, `pended`, `updated` and others that the platform reports. */
  events?: { [id: string]: {
    /** The time at which it last happened. */
    at?: string;
    /** The actor, where the platform names one. */
    by?: {
      /** The id at the platform. */
      id?: string;
      /** The name. */
      name?: string;
    };
  } };
  /** The id at the platform. */
  id: string;
  /** The items that it asks for, with their quantities. */
  items?: Array<{
    /** The id at the platform. */
    id?: string;
    /** The name. */
    name?: string;
    /** The quantity before the change. */
    old_quantity?: string;
    /** The quantity, as the platform writes it: a number, or a word such as `unlimited`. */
    quantity?: string;
    /** The vendor's number of it. */
    sku?: string;
  }>;
  /** The kind of request: `purchase`, `change`, `cancel`, … */
  kind?: string;
  /** A note of those who work on it. */
  note?: string;
  /** The parameters that it is made with, by their ids; never passwords. */
  parameters?: { [id: string]: string };
  /** The product that it is about. */
  product?: string;
  /** The reason for its refusal. */
  reason?: string;
  /** The platform's status. */
  status?: string;
  /** The subscription that it is about. */
  subscription?: string;
  /** The time of the source's last change. */
  updated_at?: string;
}

/** An event that no entity of this module stands for, kept as it came: its data is among the platform's own fields. */
export interface Record {
  /** The platform's name of the event; absent where the body is no object. */
  event?: string;
  /** The id of the message, or a hash of its body where it has none. */
  id: string;
  /** The time of the event, as the platform tells it. */
  occurred_at?: string;
  /** The person who had signed in when it came to be, where the platform names one. Only the delivery's proof vouches for it. */
  user?: string;
}

/** Every canonical entity, by the first part of its sort key. */
export interface Entities {
  customer: Customer;
  product: Product;
  order: Order;
  coupon: Coupon;
  category: Category;
  price: Price;
  cart: Cart;
  subscription: Subscription;
  request: Request;
  record: Record;
}
