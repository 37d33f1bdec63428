#include "api/header.h"

#include <string.h>

#include "tests/support/test.h"

TEST(an_etag_is_found_in_a_list)
{
    EXPECT(header_etag_matches("\"a\"", "\"a\""));
    EXPECT(header_etag_matches("\"b\", \"a\"", "\"a\""));
    EXPECT(header_etag_matches("  W/\"a\" ", "\"a\""));
    EXPECT(header_etag_matches("\"x,y\",\"a\"", "\"a\""));
    EXPECT(header_etag_matches("*", "\"a\""));
    EXPECT(!header_etag_matches(NULL, "\"a\""));
    EXPECT(!header_etag_matches("", "\"a\""));
    EXPECT(!header_etag_matches("\"A\"", "\"a\""));
    EXPECT(!header_etag_matches("\"aa\"", "\"a\""));
    EXPECT(!header_etag_matches("a", "\"a\""));
    EXPECT(!header_etag_matches("\"a", "\"a\""));
    EXPECT(!header_etag_matches("\"b\" junk", "\"a\""));
}

TEST(accept_names_what_is_taken)
{
    EXPECT(header_accepts(NULL, "image", "webp"));
    EXPECT(header_accepts(" ", "image", "webp"));
    EXPECT(header_accepts("*/*", "image", "webp"));
    EXPECT(header_accepts("image/*", "image", "webp"));
    EXPECT(header_accepts("text/html, IMAGE/WebP;q=0.5", "image", "webp"));
    EXPECT(header_accepts("image/png ; q=0.5 , image/webp ; level=1", "image", "webp"));
    EXPECT(!header_accepts("image/jpeg", "image", "webp"));
    EXPECT(!header_accepts("image/jpeg, text/*", "image", "webp"));
    EXPECT(!header_accepts("*/*, image/webp;q=0", "image", "webp"));
    EXPECT(!header_accepts("image/*;q=0.000, */*", "image", "webp"));
    EXPECT(header_accepts("image/*;q=0, image/webp", "image", "webp"));
    EXPECT(!header_accepts("webp", "image", "webp"));
    EXPECT(!header_accepts(",,", "image", "webp"));
}

TEST(a_media_type_is_recognised)
{
    EXPECT(header_is_type("application/json", "application/json"));
    EXPECT(header_is_type(" Application/JSON ; charset=utf-8", "application/json"));
    EXPECT(!header_is_type("application/jsonx", "application/json"));
    EXPECT(!header_is_type("", "application/json"));
    EXPECT(!header_is_type(NULL, "application/json"));
}

TEST(preferences_are_found)
{
    EXPECT_INT(header_prefer_wait("wait=30"), 30);
    EXPECT_INT(header_prefer_wait("respond-async, Wait = 5"), 5);
    EXPECT_INT(header_prefer_wait("handling=lenient;wait=\"7\""), 7);
    EXPECT(header_prefer_wait("wait=99999999999999") >= 60);
    EXPECT_INT(header_prefer_wait("wait"), -1);
    EXPECT_INT(header_prefer_wait("wait=x"), -1);
    EXPECT_INT(header_prefer_wait("waiting=5"), -1);
    EXPECT_INT(header_prefer_wait("await=5"), -1);
    EXPECT_INT(header_prefer_wait(NULL), -1);
    EXPECT(header_prefer_lenient("wait=3, handling=Lenient"));
    EXPECT(header_prefer_lenient("handling=\"lenient\""));
    EXPECT(!header_prefer_lenient("handling=strict"));
    EXPECT(!header_prefer_lenient("handling=lenientish"));
    EXPECT(!header_prefer_lenient(NULL));
}

TEST(numbers_are_digits)
{
    int64_t n = -1;

    EXPECT(header_number("0", &n) && n == 0);
    EXPECT(header_number("999999999999999999", &n) && n == 999999999999999999);
    EXPECT(!header_number("1000000000000000000", &n));
    EXPECT(!header_number("", &n) && !header_number(NULL, &n));
    EXPECT(!header_number("-1", &n) && !header_number("1 ", &n) && !header_number("1.5", &n));
}

TEST(an_idempotency_key_is_short_and_printable)
{
    char key[300];

    EXPECT(header_key_valid("a") && header_key_valid("a b~"));
    EXPECT(!header_key_valid("") && !header_key_valid("a\tb") && !header_key_valid("\xc3\xa4"));
    memset(key, 'k', sizeof(key));
    key[255] = '\0';
    EXPECT(header_key_valid(key));
    key[255] = 'k';
    key[256] = '\0';
    EXPECT(!header_key_valid(key));
}

TEST(dates_are_those_of_http)
{
    char text[HEADER_DATE_SIZE];

    header_date(784111777, text);
    EXPECT_STR(text, "Sun, 06 Nov 1994 08:49:37 GMT");
}

TEST(the_client_is_whoever_shows_the_token)
{
    char a[HEADER_CLIENT_SIZE];
    char b[HEADER_CLIENT_SIZE];

    EXPECT(header_client("Bearer k", NULL, a) && header_client("key   k", NULL, b));
    EXPECT_STR(a, "8254c329a92850f6"); /* of SHA-256("k") */
    EXPECT_STR(b, a);
    EXPECT(header_client(NULL, "k", b));
    EXPECT_STR(b, a);
    EXPECT(header_client("Basic abc", "k", b));
    EXPECT_STR(b, a);
    EXPECT(header_client("Bearer other", "k", b) && strcmp(a, b) != 0);
    EXPECT(header_client(NULL, NULL, b));
    EXPECT_STR(b, "");
    EXPECT(header_client("Bearer ", NULL, b));
    EXPECT_STR(b, "");
}
