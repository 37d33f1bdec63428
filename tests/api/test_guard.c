#include "api/guard.h"
#include "tests/support/test.h"

TEST(guard_takes_names_of_this_machine)
{
    EXPECT(guard_host("localhost", ""));
    EXPECT(guard_host("LocalHost:7262", ""));
    EXPECT(guard_host("127.0.0.1:7262", ""));
    EXPECT(guard_host("127.1.2.3", ""));
    EXPECT(guard_host("[::1]:7262", ""));
    EXPECT(guard_host(NULL, ""));
}

TEST(guard_refuses_foreign_names)
{
    EXPECT(!guard_host("evil.example", ""));
    EXPECT(!guard_host("localhost.evil.example", ""));
    EXPECT(!guard_host("127.evil.example", ""));
    EXPECT(!guard_host("127.0.0.1.evil.example", ""));
    EXPECT(!guard_host("[::2]:80", ""));
    EXPECT(!guard_host("", ""));
    EXPECT(!guard_host("192.168.0.1:7262", ""));
}

TEST(guard_takes_names_of_the_configuration)
{
    EXPECT(guard_host("video.example:443", "other.example, video.example"));
    EXPECT(guard_host("anything", "*"));
    EXPECT(!guard_host("deo.example", "video.example"));
    EXPECT(!guard_host("video.example.evil", "video.example"));
    EXPECT(!guard_host("", "video.example,,"));
}

TEST(guard_looks_at_origins)
{
    EXPECT(guard_origin(NULL, ""));
    EXPECT(guard_origin("http://localhost:3000", ""));
    EXPECT(guard_origin("http://[::1]:3000", ""));
    EXPECT(!guard_origin("https://evil.example", ""));
    EXPECT(!guard_origin("null", ""));
    EXPECT(guard_origin("null", "*"));
    EXPECT(guard_origin("https://video.example", "video.example"));
}
