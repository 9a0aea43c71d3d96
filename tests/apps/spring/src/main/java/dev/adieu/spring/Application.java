package dev.adieu.spring;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;

/** An ordinary Spring Boot service, whose only endpoint takes as long as it is asked to. */
@SpringBootApplication
@RestController
public class Application {
    public static void main(String[] arguments) {
        SpringApplication.run(Application.class, arguments);
    }

    /** Works for some seconds. */
    @GetMapping("/")
    public String work(@RequestParam(defaultValue = "0") double seconds) throws InterruptedException {
        Thread.sleep((long) (seconds * 1000));
        return "worked for " + seconds + " s\n";
    }
}
